"""Questions over many versions: status, explain, update, verify."""
