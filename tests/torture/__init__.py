import pytest

pytest.register_assert_rewrite("tests.torture.life", "tests.torture.steps")
