"""No damaged file is taken for a whole one. With all counts: python -m tests.benchmarks.damage"""

import zipfile
from random import Random

import pytest

from minitransformer import CheckpointError, checkpoint
from tests.minitransformer.damage import DAMAGES, fate, flat, read_run, with_bit_flipped, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    write_run(folder)
    return folder


@pytest.fixture(params=["model.pt", "snapshots/00003.pt"])
def path(request, run):
    """A file of the run; it is whole again afterwards."""
    path = run / request.param
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("read", [checkpoint.read, None], ids=["load", "resume"])
def test_what_is_damaged_is_refused_or_means_the_same(damage, read, path, run):
    """A flip in an unused byte of the zip file may pass: nothing that is read has changed."""
    whole, dice = path.read_bytes(), Random(1)
    reader = read or (lambda _: read_run(run / "model.pt"))
    content = flat(reader(path))
    fates = [fate(DAMAGES[damage](whole, dice), content, path, reader) for _ in range(25)]
    assert set(fates) <= {"refused", "unchanged"} and fates.count("refused") > 10


def test_no_bit_of_the_directory_of_parts_misleads(path):
    """torch takes sizes and attributes from there, and no check sum covers it."""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as parts:
        directory = range(8 * parts.start_dir, 8 * len(whole))
    content = flat(checkpoint.read(path))
    bits = Random(2).sample(directory, 400)
    fates = [fate(with_bit_flipped(whole, bit), content, path, checkpoint.read) for bit in bits]
    assert set(fates) == {"refused", "unchanged"}


def test_a_part_that_poses_as_a_folder_is_no_weight(path):
    """The smallest case: with one bit of its attributes flipped, torch read a tensor from memory
    that nobody had written.
    """
    whole = path.read_bytes()
    content, found = flat(checkpoint.read(path)), []
    place = whole.index(b"PK\x01\x02")
    while place >= 0:
        damaged = with_bit_flipped(whole, 8 * (place + 38) + 4)  # "this is a folder"
        found.append(fate(damaged, content, path, checkpoint.read))
        place = whole.find(b"PK\x01\x02", place + 1)
    assert len(found) > 5 and set(found) <= {"refused", "unchanged"}


def test_a_file_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(CheckpointError, match="is damaged, or is no checkpoint"):
        checkpoint.read(tmp_path / "model.pt")
