"""The lab as the tests open it: made once, in a state that its address names."""

import pytest

from course.site import lab


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The file with the shipped models."""
    return lab.write(tmp_path_factory.mktemp("site") / "lab.html", {})


@pytest.fixture
def at(open_page, made):
    """at("names") opens an experiment; at("names", "&off=0.2", width=400) a state of it."""

    def opened(experiment: str = "names", more: str = "", **options):
        return open_page(made, fragment=f"#experiment={experiment}{more}", **options)

    return opened
