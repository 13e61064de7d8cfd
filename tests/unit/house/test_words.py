"""One word per thing. The words stand in docs/index.md; these are the ones that are not used for them."""

import re

import pytest

from tests.unit.house.sources import ROOT, files, read

# As whole words, also inside identifiers. Words that plain English cannot do without (message, plan, right, retry,
# pack, helper, execution) are left to the eye of the reviewer.
_INSTEAD = {
    "connector": "provider",
    "driver": "provider",
    "addon": "plugin",
    "extension": "plugin",
    "node": "capability or step",
    "dag": "pipeline",
    "flow": "pipeline",
    "stage": "step",
    "job": "event or action definition",
}
_PHRASES = {
    "task type": "capability",
    "task run": "invocation",
    "trigger config": "trigger definition",
    "action config": "action definition",
    "pipeline execution": "run",
}
# (file, word): why the word is right there.
_ALLOWED = {
    ("latchflow/runtime/loader/loading.py", "extension"): "the import system's own word for compiled modules",
    ("plugins/s3/client.py", "connector"): "a parameter of the library for S3",
    ("latchflow/services/http.py", "extension"): "a parameter of the HTTP library",
    ("latchflow/services/email_message.py", "extension"): "SMTP's own word",
    ("latchflow/store/migrate.py", "driver"): "SQLAlchemy's name of a method",
    ("tests/unit/services/servers.py", "extension"): "a class of the TLS library",
    ("latchflow/expressions.py", "node"): "a place in a JSON tree, as a local name",
    ("plugins/webhook/body.py", "node"): "a place in a JSON tree, as a local name",
}
_SKIPPED = ("requirements/", "LICENSE", "tests/unit/house/test_words.py", "tests/histories/")  # the last are sealed
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_FILES = [path for path in files() if not path.relative_to(ROOT).as_posix().startswith(_SKIPPED)]


def _found(text: str) -> set[str]:
    words = {word.lower().removesuffix("s") for word in _WORD.findall(text)} & _INSTEAD.keys()
    return words | {phrase for phrase in _PHRASES if re.search(rf"\b{phrase}s?\b", text, re.IGNORECASE)}


def test_no_file_uses_another_word_for_one_of_ours() -> None:
    faults = [
        f"{name}:{number}: {word!r}; say {(_INSTEAD | _PHRASES)[word]}"
        for path in _FILES
        for name in [path.relative_to(ROOT).as_posix()]
        for number, line in enumerate(read(path).splitlines(), start=1)
        for word in _found(line)
        if (name, word) not in _ALLOWED
    ]

    assert not faults, "One word per thing (docs/index.md), or an entry with its reason in _ALLOWED:\n" + "\n".join(
        faults
    )


def test_every_exception_is_still_needed() -> None:
    stale = [entry for entry in _ALLOWED if entry[1] not in _found(read(ROOT / entry[0]))]

    assert not stale


@pytest.mark.parametrize(
    "text", ["a job", "the Nodes of it", "job_id", "jobId", "class JobStore", "this DAG", "a data-flow", "a Task type"]
)
def test_a_forbidden_word_is_found(text: str) -> None:
    assert _found(text)


@pytest.mark.parametrize("text", ["workflow", "Latchflow", "TriggerEventWorkflow", "overflow", "screwdriver", "staged"])
def test_a_word_that_only_contains_one_is_none(text: str) -> None:
    assert not _found(text)
