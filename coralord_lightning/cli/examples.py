"""Lines to begin with, by command, and the groups that `coral --help` shows commands in. Text only."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EXAMPLES", "FIRST", "GROUPS"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "describe and build": ("describe", "plan", "build", "status", "update"),
    "look at versions": ("list", "log", "show", "query", "verify", "samples"),
    "hand on": ("export",),
    "this machine": ("schema", "completion", "doctor"),
}

FIRST = (
    ("coral describe data.csv -o data.croissant.json", "say what lies in a file"),
    ("coral build digits.yaml", "make a version of what a descriptor asks for"),
    ("coral status digits.yaml --explain", "what has changed since"),
)

EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "describe": (
        ("coral describe data.csv", "print what one file holds"),
        ("coral describe 'parts/*.parquet' -o parts.croissant.json", "write it beside the data"),
    ),
    "plan": (
        ("coral plan digits.yaml", "rows, bytes to fetch, disk"),
        ("coral plan digits.yaml --offline --json", "for a program, without a request"),
    ),
    "build": (
        ("coral build digits.yaml", "build what is stale or missing"),
        ("coral build digits.yaml --locked", "exactly what coral.lock says"),
        ("coral build digits.yaml --check --jobs 2", "build twice and compare"),
    ),
    "status": (
        ("coral status digits.yaml --explain", "every input that changed"),
        ("coral status *.yaml --exit-code", "in CI: exit 3 if one is stale"),
    ),
    "update": (
        ("coral update digits.yaml --dry-run", "what the lock would move to"),
        ("coral update digits.yaml", "move it"),
    ),
    "list": (
        ("coral list", "the newest version of each"),
        ("coral list --json", "for a program"),
    ),
    "log": (("coral log digits", "every version that digits had"),),
    "show": (
        ("coral show 3f2a9c1b", "by the first digits of a fingerprint"),
        ("coral show 3f2a9c1b --json", "its whole manifest"),
    ),
    "verify": (
        ("coral verify", "all versions: presence and sizes"),
        ("coral verify 3f2a9c1b --deep", "one, every byte"),
    ),
    "samples": (
        ("coral samples last.ckpt --step 0", "the rows of the first batch"),
        ("coral samples last.ckpt --step 2 --count 3 --json", "of three batches"),
    ),
    "query": (
        ("coral query 'select name, num_rows from entries'", "SQL over the catalog"),
        ("coral query 'from shards limit 5' --json", "for a program"),
    ),
    "export": (
        ("coral export hf 3f2a9c1b hf-digits", "a folder that load_dataset reads"),
        ("coral export croissant 3f2a9c1b croissant-digits", "Parquet with JSON-LD"),
    ),
    "schema": (("coral schema > descriptor.schema.json", "for an editor to check by"),),
    "completion": (
        ("coral completion bash > coral.bash", "then: source coral.bash"),
        ("coral completion zsh > _coral", "in a folder of $fpath"),
        ("coral completion fish > coral.fish", "in ~/.config/fish/completions"),
    ),
    "doctor": (("coral doctor", "what works here, and how to mend what does not"),),
}
