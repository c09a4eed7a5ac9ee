import pytest

pytest.register_assert_rewrite("tests.serde.building", "tests.serde.serving")
