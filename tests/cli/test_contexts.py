import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kandle.cli.contexts import is_context_name, load_context
from kandle.errors import KandleError, ModelError, OptionsError

GOOD = """
from kandle import Context
class Market(Context): ...
class Other: ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder of its own; modules that a test imports from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("KANDLE_CONTEXT", raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_context_is_found_in_the_working_folder_and_in_packages(folder: Path) -> None:
    (folder / "shop_a.py").write_text(GOOD)
    (folder / "shops").mkdir()
    (folder / "shops" / "b.py").write_text(GOOD)
    assert load_context("shop_a:Market").__name__ == "Market"
    assert load_context("shops.b:Market").__module__ == "shops.b"


def test_without_a_name_the_configuration_file_says_it(folder: Path) -> None:
    (folder / "shop_c.py").write_text(GOOD)
    with pytest.raises(OptionsError, match=r"name a context, such as `app:Market`, or write .* into kandle\.toml"):
        load_context(None)
    (folder / "kandle.toml").write_text('context = "shop_c:Market"\n')
    assert load_context(None).__name__ == "Market"


@pytest.mark.parametrize("name", ["shop", "shop.py", "shop:", ":Market", "a:b:c", "data/a.csv", "a b:C"])
def test_what_is_no_name_of_a_context_is_refused(folder: Path, name: str) -> None:
    assert not is_context_name(name)
    with pytest.raises(OptionsError, match=r"write module\.path:Class, such as app:Market"):
        load_context(name)


def test_a_missing_module_is_named_with_one_that_is_close(folder: Path) -> None:
    (folder / "market.py").write_text(GOOD)
    with pytest.raises(ModelError, match=r"there is no module 'markt' in .*; did you mean 'market'\?"):
        load_context("markt:Market")
    with pytest.raises(ModelError, match=r"there is no module 'market\.deep' in"):
        load_context("market.deep:Market")


def test_a_missing_class_is_named_with_the_contexts_that_there_are(folder: Path) -> None:
    (folder / "shop_d.py").write_text(GOOD)
    with pytest.raises(ModelError, match=r"has no 'Markt'; did you mean 'Market'\? \(its contexts: Market\)"):
        load_context("shop_d:Markt")
    with pytest.raises(ModelError, match=r"has 'Other', but it is not a subclass of kandle\.Context"):
        load_context("shop_d:Other")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = {}['k']\n", r"cannot be imported: KeyError: 'k' \(broken\.py, line 2\)"),
        ("import nowhere_at_all\n", r"ModuleNotFoundError: No module named 'nowhere_at_all' \(broken\.py, line 1\)"),
        ("x = 1\ndef f(:\n", r"SyntaxError: .* \(broken\.py, line 2\)"),
        ("import json\n\njson.loads('{')\n", r"JSONDecodeError: .* \(.*json.*, line \d+\)|\(broken\.py, line 3\)"),
        (
            "import sys\n\nsys.exit(3)\n",
            r"cannot be imported: it ends the program \(exit code 3\) \(broken\.py, line 3\); move all code but declarations",
        ),
        (
            "import kandle\nfrom kandle.model.entity import entity_model\nclass A: ...\n\nentity_model(A)\n",
            r"cannot be imported: A is not an entity: .* \(broken\.py, line 5\)",
        ),
    ],
)
def test_an_error_inside_of_a_module_is_one_line_with_type_message_and_place(folder: Path, source: str, message: str) -> None:
    (folder / "broken.py").write_text(source)
    with pytest.raises(KandleError, match=message) as caught:
        load_context("broken:Market")
    assert "\n" not in str(caught.value)
