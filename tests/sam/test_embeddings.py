import errno
import os

import h5py
import numpy as np
import pytest
import torch

from samsemi.errors import CheckpointError, RefusedError
from samsemi.sam.embeddings import OVERHEAD, SCHEMA, EmbeddingCache
from samsemi.sam.protocol import Embedding, load_sam


class CountingSam:
    """A backend whose embeddings are means of the image, with a rest that half precision rounds; counts what it encodes."""

    def __init__(self, identity: str = "weights-1", width: int = 3):
        self.name, self.identity, self.width = "counting", identity, width
        self.encoded: list[np.ndarray] = []

    def encode(self, images):
        self.encoded += images
        steps = torch.arange(self.width**2).view(self.width, self.width) / 3
        return [Embedding({"features": (float(image.mean()) / 7 + steps).repeat(2, 1, 1)}, image.shape[:2]) for image in images]


def images_of(*seeds: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 256, size=(5 + seed, 9, 3), dtype=np.uint8) for seed in seeds]


def encode(path, sam, images) -> list[Embedding]:
    cache = EmbeddingCache(path, sam)
    found = cache.encode(images)
    cache.close()
    return found


def assert_identical(first, second) -> None:
    assert [e.image_size for e in first] == [e.image_size for e in second]
    for a, b in zip(first, second, strict=True):
        assert set(a.tensors) == set(b.tensors) and all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)


def test_cold_and_warm_cache_give_identical_embeddings(tmp_path):
    sam, images = CountingSam(), images_of(0, 1, 2)
    cold = encode(tmp_path / "c.h5", sam, images)
    warm = encode(tmp_path / "c.h5", sam, images)
    assert_identical(cold, warm)
    assert len(sam.encoded) == 3
    assert cold[0].tensors["features"].dtype == torch.float32 and [e.image_size for e in cold] == [(5, 9), (6, 9), (7, 9)]


def test_embeddings_are_the_backends_in_half_precision(tmp_path):
    sam, images = CountingSam(), images_of(0, 1)
    for cached, fresh in zip(encode(tmp_path / "c.h5", sam, images), sam.encode(images), strict=True):
        stored, exact = cached.tensors["features"], fresh.tensors["features"]
        assert torch.equal(stored, exact.half().float()) and not torch.equal(stored, exact)


def test_each_image_is_encoded_once_also_within_a_batch_and_under_another_order(tmp_path):
    sam = CountingSam()
    cache = EmbeddingCache(tmp_path / "c.h5", sam)
    a, b, c = images_of(0, 1, 2)
    first = cache.encode([a, b, a])
    second = cache.encode([c, b, a])
    cache.close()
    assert len(sam.encoded) == 3
    assert_identical([first[0], first[1], first[2]], [second[2], second[1], second[2]])


def test_embeddings_go_by_pixels_and_shape(tmp_path):
    sam = CountingSam()
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    found = encode(tmp_path / "c.h5", sam, [image, image.reshape(6, 4, 3), image + 1, np.asfortranarray(image)])
    assert len(sam.encoded) == 3
    assert [e.image_size for e in found] == [(4, 6), (6, 4), (4, 6), (4, 6)]


def test_cache_of_another_sam_is_refused(tmp_path):
    encode(tmp_path / "c.h5", CountingSam(), images_of(0))
    with pytest.raises(CheckpointError, match="another SAM, or of other weights: counting, fp32"):
        EmbeddingCache(tmp_path / "c.h5", CountingSam("weights-2"))


@pytest.mark.parametrize("damage", ["no tensors", "fewer rows"])
def test_damaged_cache_is_refused(tmp_path, damage):
    encode(tmp_path / "c.h5", CountingSam(), images_of(0, 1))
    with h5py.File(tmp_path / "c.h5", "a") as file:
        features = file["features"][:1]
        del file["features"]
        if damage == "fewer rows":
            file["features"] = features
    with pytest.raises(CheckpointError, match="c.h5 is damaged: it lacks tensors of its 2 images"):
        EmbeddingCache(tmp_path / "c.h5", CountingSam())


def test_foreign_files_are_refused_and_left_alone(tmp_path):
    (tmp_path / "text.h5").write_text("not hdf5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["data"] = np.zeros(3)
    with h5py.File(tmp_path / "store.h5", "w") as file:
        file.attrs["schema"] = "samsemi.pseudo-labels/1"
    for name in ("text.h5", "foreign.h5", "store.h5"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(CheckpointError, match=name):
            EmbeddingCache(tmp_path / name, CountingSam())
        assert (tmp_path / name).read_bytes() == before


def test_features_whose_keys_were_not_written_when_killed_are_written_again(tmp_path):
    sam, images = CountingSam(), images_of(0, 1, 2)
    encode(tmp_path / "c.h5", sam, images[:1])
    with h5py.File(tmp_path / "c.h5", "a") as file:
        file["features"].resize(3, axis=0)
        file["features"][1:] = 99
    assert_identical(encode(tmp_path / "c.h5", sam, images), encode(tmp_path / "d.h5", CountingSam(), images))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_cache_of_a_killed_process_is_whole(tmp_path):
    sam, images = CountingSam(), images_of(0, 1, 2)
    if os.fork() == 0:
        EmbeddingCache(tmp_path / "c.h5", sam).encode(images[:2])
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
    found = encode(tmp_path / "c.h5", sam, images)
    assert len(sam.encoded) == 1, "two of the three were encoded by the process that died"
    assert_identical(found, encode(tmp_path / "d.h5", CountingSam(), images))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("owner", ["encode", "append"])
def test_cache_of_a_process_killed_before_its_first_embedding_is_taken_up(tmp_path, monkeypatch, owner):
    if os.fork() == 0:
        cache = EmbeddingCache(tmp_path / "c.h5", CountingSam())
        monkeypatch.setattr(*((cache.sam, "encode") if owner == "encode" else (cache, "append")), lambda *_: os._exit(9))
        cache.encode(images_of(0))
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
    assert_identical(encode(tmp_path / "c.h5", CountingSam(), images_of(0)), encode(tmp_path / "d.h5", CountingSam(), images_of(0)))


def test_cache_that_another_command_fills_is_refused(tmp_path):
    cache = EmbeddingCache(tmp_path / "c.h5", CountingSam())
    with pytest.raises(RefusedError, match=f"c.h5 is being written by process {os.getpid()} on "):
        EmbeddingCache(tmp_path / "c.h5", CountingSam())
    cache.close()
    encode(tmp_path / "c.h5", CountingSam(), images_of(0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_no_room_is_an_error_rather_than_embeddings_of_zeros(tmp_path):
    resource = pytest.importorskip("resource")
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, -1))
        cache = EmbeddingCache(tmp_path / "c.h5", CountingSam(width=50))
        try:
            cache.encode(images_of(0, 1, 2, 3))
        except OSError as error:
            os._exit(3 if error.filename == str(tmp_path / "c.h5") else 4)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 3


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="macOS cannot reserve room")
def test_cache_that_found_no_room_is_whole_and_goes_on(tmp_path):
    resource = pytest.importorskip("resource")
    images = images_of(*range(30))
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, -1))
        cache = EmbeddingCache(tmp_path / "c.h5", CountingSam(width=50))
        try:
            for image in images:
                cache.encode([image])
        except OSError:
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 3
    sam = CountingSam(width=50)
    found = encode(tmp_path / "c.h5", sam, images)
    assert len(sam.encoded) < len(images), "those that found room are there still"
    assert_identical(found, encode(tmp_path / "d.h5", CountingSam(width=50), images))


def test_file_system_that_cannot_reserve_room_is_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    found = encode(tmp_path / "c.h5", CountingSam(), images_of(0, 1))
    monkeypatch.undo()
    assert_identical(found, encode(tmp_path / "c.h5", CountingSam(), images_of(0, 1)))


def test_room_that_was_reserved_and_not_used_is_no_more_than_of_one_batch(tmp_path):
    sam = CountingSam()
    cache = EmbeddingCache(tmp_path / "c.h5", sam)
    for seed in range(9):
        cache.encode(images_of(seed))
    cache.close()
    assert (tmp_path / "c.h5").stat().st_size < 2 * OVERHEAD
    encode(tmp_path / "c.h5", sam, images_of(0))
    assert (tmp_path / "c.h5").stat().st_size < OVERHEAD, "cut off"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_row_that_is_no_number_is_named(tmp_path, value):
    encode(tmp_path / "c.h5", CountingSam(), images_of(0, 1))
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["features"][1, 0, 0, 0] = value
    encode(tmp_path / "c.h5", CountingSam(), images_of(0))
    with pytest.raises(CheckpointError, match=r"c\.h5: row 1 is damaged \(NaN or infinity"):
        encode(tmp_path / "c.h5", CountingSam(), images_of(1))


def test_cache_is_plain_hdf5(tmp_path):
    encode(tmp_path / "new" / "c.h5", CountingSam(), images_of(0, 1))
    with h5py.File(tmp_path / "new" / "c.h5") as file:
        assert dict(file.attrs) == {"schema": SCHEMA, "sam": "counting", "identity": "weights-1", "precision": "fp32"}
        assert file["features"].shape == (2, 2, 3, 3) and file["features"].dtype == np.float16 and len(set(file["keys"][:])) == 2


def test_baselines_pass_through(tmp_path):
    found = encode(tmp_path / "c.h5", load_sam("ellipse", None, torch.device("cpu")), images_of(0, 1, 0))
    assert [e.image_size for e in found] == [(5, 9), (6, 9), (5, 9)]


class TwoScaleSam(CountingSam):
    """Its embeddings have a finer tensor besides."""

    def encode(self, images):
        coarse = super().encode(images)
        return [Embedding({**e.tensors, "fine": 2 * e.tensors["features"].repeat(1, 2, 2)}, e.image_size) for e in coarse]


def test_every_tensor_of_an_embedding_is_kept_under_its_name(tmp_path):
    sam, images = TwoScaleSam(), images_of(0, 1, 2)
    cold = encode(tmp_path / "c.h5", sam, images[:2])
    again = encode(tmp_path / "c.h5", sam, images)
    assert len(sam.encoded) == 3
    assert_identical(cold, again[:2])
    assert {name: tuple(value.shape) for name, value in again[2].tensors.items()} == {"features": (2, 3, 3), "fine": (2, 6, 6)}
    assert torch.equal(again[2].tensors["fine"], 2 * again[2].tensors["features"].repeat(1, 2, 2))


def test_file_without_keys_is_filled_from_the_beginning(tmp_path):
    """A process was killed before it had written the first ones."""
    sam, images = CountingSam(), images_of(0, 1)
    encode(tmp_path / "c.h5", sam, images)
    with h5py.File(tmp_path / "c.h5", "a") as file:
        del file["keys"]
    assert_identical(encode(tmp_path / "c.h5", sam, images), encode(tmp_path / "d.h5", CountingSam(), images))


def rows_on_disk(path) -> list[tuple[int, int]]:
    """Where the rows of the first tensor begin, and how long they are."""
    with h5py.File(path) as file:
        return [(info.byte_offset, info.size) for info in map(file["features"].id.get_chunk_info, range(len(file["features"])))]


@pytest.mark.parametrize("row", [0, 1, 2])
def test_bit_that_turns_in_a_row_is_named_and_the_others_are_read(tmp_path, row):
    path, images = tmp_path / "c.h5", images_of(0, 1, 2)
    whole = encode(path, CountingSam(), images)
    data = bytearray(path.read_bytes())
    for place in range(0, rows_on_disk(path)[row][1], 7):
        turned = data.copy()
        turned[rows_on_disk(path)[row][0] + place] ^= 1
        path.write_bytes(turned)
        cache = EmbeddingCache(path, CountingSam())
        others = [i for i in range(3) if i != row]
        assert_identical(cache.encode([images[i] for i in others]), [whole[i] for i in others])
        with pytest.raises(CheckpointError, match=rf"c\.h5: row {row} is damaged"):
            cache.encode([images[row]])
        cache.close()


def test_cache_of_before_there_were_checksums_is_read_and_filled(tmp_path):
    images = images_of(0, 1, 2)
    wanted = encode(tmp_path / "d.h5", CountingSam(), images)
    encode(tmp_path / "c.h5", CountingSam(), images[:2])
    with h5py.File(tmp_path / "c.h5", "a") as file:
        features = file["features"][:]
        del file["features"]
        file.create_dataset("features", data=features, maxshape=(None, *features.shape[1:]), chunks=(1, *features.shape[1:]))
    sam = CountingSam()
    assert_identical(encode(tmp_path / "c.h5", sam, images), wanted)
    assert len(sam.encoded) == 1


def test_row_that_was_being_written_when_killed_is_written_anew_whatever_stands_there(tmp_path):
    """Its checksum does not fit; it has no key, so it is not read."""
    path, images = tmp_path / "c.h5", images_of(0, 1)
    whole = encode(path, CountingSam(), images)
    start, length = rows_on_disk(path)[1]
    with h5py.File(path, "a") as file:
        file["keys"].resize(1, axis=0)
    data = bytearray(path.read_bytes())
    data[start : start + length] = bytes(length)
    path.write_bytes(data)
    assert_identical(encode(path, CountingSam(), images), whole)


@pytest.mark.parametrize("change", [lambda values: values.astype(np.float32), lambda values: values[:, :1]])
def test_tensors_of_another_type_or_of_another_sam_are_named(tmp_path, change):
    sam = CountingSam()
    sam.embedding_shapes = {"features": (2, 3, 3)}
    encode(tmp_path / "c.h5", sam, images_of(0))
    with h5py.File(tmp_path / "c.h5", "a") as file:
        features = change(file["features"][:])
        del file["features"]
        file["features"] = features
    with pytest.raises(CheckpointError, match=r"c\.h5 is damaged: features is"):
        EmbeddingCache(tmp_path / "c.h5", sam)


def test_embeddings_that_half_precision_cannot_hold_are_not_kept(tmp_path):
    class LoudSam(CountingSam):
        def encode(self, images):
            return [Embedding({"features": torch.full((2, 3, 3), 1e6)}, image.shape[:2]) for image in images]

    with pytest.raises(CheckpointError, match="too large for half precision"):
        encode(tmp_path / "c.h5", LoudSam(), images_of(0))
    assert len(encode(tmp_path / "c.h5", CountingSam(), images_of(0))) == 1
