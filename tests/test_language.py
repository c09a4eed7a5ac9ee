"""Names and docstrings of the library follow the rules of language in CONTRIBUTING.md."""

from pathlib import Path

from tools.language import violations
from tools.structure import cycles, imports, modules, shared_class_names

SOURCE = Path(__file__).parents[1] / "src" / "kandle"


def test_names_say_what_they_hold_and_docstrings_start_with_a_verb() -> None:
    assert [str(violation) for violation in violations([SOURCE])] == []


def test_no_two_classes_share_a_name() -> None:
    assert shared_class_names(modules(SOURCE)) == {}


def test_no_file_imports_itself_through_others() -> None:
    assert cycles(imports(modules(SOURCE))) == []


def test_a_violation_is_found(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text('def ends(found: int) -> int:\n    """The end."""\n    return found\n')
    messages = [violation.message for violation in violations([file])]
    assert sorted(messages) == [
        "the docstring of ends starts with 'the'; start with a verb in the imperative",
        "the name 'found' says nothing; name it after what it holds",
    ]
