"""Questions over many versions: status, explain, update, verify; and over a run's rows: samples."""
