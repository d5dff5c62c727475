"""Pulls that are cut, stalled, cancelled, shared or led elsewhere: what is fetched again, what stays, what goes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pyker.errors import Cancelled, Corrupt, NotFound
from pyker.jobs.images import RegistryAuth
from pyker.registry.answers import BadAnswer, Refused, Unreachable
from pyker.registry.downloads import NoSpace
from pyker.types.ids import short
from tests.support.fault_registry import FaultRegistry, digest_of, errors, make_tar, noise
from tests.support.transfers import Transfers


def test_a_wrong_digest_leaves_nothing(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], corrupt=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, Corrupt)
    assert str(outcome.error) == f"filesystem layer verification failed for digest {image.layers[0]}"
    assert transfers.partial() == {}
    assert transfers.graph.layers == {}
    assert transfers.graph.names == {}
    assert len(registry.asked(image.layers[0])) == 1


def test_a_cut_download_goes_on_where_it_ended(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], cut=200_000, times=1)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert outcome.error is None
    asked = registry.asked(image.layers[0])
    assert [item.headers.get("range") for item in asked] == [None, "bytes=200000-"]
    assert f"{short(image.layers[0])}: Retrying in 1 second" in outcome.lines


def test_cuts_that_bring_something_do_not_end_the_pull(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer(1_000_000)
    registry.fault(image.layers[0], cut=70_000)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert outcome.error is None
    assert len(registry.asked(image.layers[0])) == 15


def test_cuts_that_bring_nothing_end_it_after_five_attempts(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], cut=0)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, Unreachable)
    assert len(registry.asked(image.layers[0])) == 5
    assert transfers.waited == 5 + 10 + 15 + 20
    waits = [line.partition(": ")[2] for line in outcome.lines if "Retrying" in line]
    assert waits[:6] == [
        *(f"Retrying in {left} seconds" for left in (5, 4, 3, 2)),
        "Retrying in 1 second",
        "Retrying in 10 seconds",
    ]


def test_a_passing_error_is_tried_again(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], status=503, times=2)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert len(registry.asked(image.layers[0])) == 3


def test_retry_after_is_heeded(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], status=429, times=1, headers={"Retry-After": "17"})
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert transfers.waited == 17


def test_a_final_error_is_not_tried_again(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], status=403, body=errors("DENIED", "no"))
    assert isinstance(transfers.pull(f"{registry.host}/team/app").error, NotFound)
    assert len(registry.asked(image.layers[0])) == 1


def test_a_registry_without_ranges_starts_over(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], cut=300_000, times=1)
    registry.fault(image.layers[0], no_range=True)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert len(registry.asked(image.layers[0])) == 2


@pytest.mark.parametrize("cut", [-1, 300_000])
def test_a_body_of_unknown_length(registry: FaultRegistry, transfers: Transfers, cut: int) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], chunked=True, cut=cut, times=1)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert len(registry.asked(image.layers[0])) == (1 if cut < 0 else 2)


def test_another_range_than_the_one_asked_for(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], cut=300_000, times=1)
    registry.fault(image.layers[0], lie_range=True, times=1)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert [item.headers.get("range") for item in registry.asked(image.layers[0])] == [None, "bytes=300000-", None]


def test_a_part_of_an_earlier_life_is_used(registry: FaultRegistry, transfers: Transfers, tmp_path: Path) -> None:
    image = registry.one_layer()
    blob = registry.blobs[image.layers[0]]
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / image.layers[0].replace(":", "-")).write_bytes(blob[:123_456])
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert [item.headers.get("range") for item in registry.asked(image.layers[0])] == ["bytes=123456-"]


def test_a_part_that_is_whole_needs_no_request(registry: FaultRegistry, transfers: Transfers, tmp_path: Path) -> None:
    image = registry.one_layer()
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / image.layers[0].replace(":", "-")).write_bytes(registry.blobs[image.layers[0]])
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert registry.asked(image.layers[0]) == []


@pytest.mark.parametrize("size", [1000, 600_000])
def test_a_bad_part_of_an_earlier_life_is_dropped(
    registry: FaultRegistry, transfers: Transfers, tmp_path: Path, size: int
) -> None:
    image = registry.one_layer()
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / image.layers[0].replace(":", "-")).write_bytes(b"\0" * size)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert transfers.partial() == {}


def test_a_layer_that_is_longer_than_it_should_be(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.blobs[image.layers[0]] += b"more"
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, BadAnswer)
    assert transfers.graph.layers == {}


def test_a_stalled_download_is_tried_again(registry: FaultRegistry, tmp_path: Path) -> None:
    transfers = Transfers(tmp_path, options={"stall_timeout_s": 0.2})
    image = registry.one_layer()
    fault = registry.fault(image.layers[0], hold=threading.Event(), hold_after=100_000, times=1)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert fault.reached.is_set()
    assert [item.headers.get("range") for item in registry.asked(image.layers[0])] == [None, "bytes=100000-"]
    transfers.close()


# Several at once


def test_three_downloads_at_once_in_the_whole_daemon(registry: FaultRegistry, transfers: Transfers) -> None:
    tars = [make_tar({"data": noise(300_000, seed)}) for seed in range(8)]
    for name, own in (("one", tars[:4]), ("two", tars[4:])):
        registry.fault(registry.add_image(name, own).image_id)  # a configuration comes without delay
    hold = threading.Event()
    registry.fault("/blobs/", hold=hold, hold_after=10)
    pulls = [transfers.start_pull(f"{registry.host}/{name}") for name in ("one", "two")]
    assert registry.wait_for(lambda: sum("Waiting" in line for pull in pulls for line in pull.lines) == 5)
    assert registry.wait_for(lambda: registry.concurrent == 3)
    hold.set()
    assert [pull.outcome().error for pull in pulls] == [None, None]


def test_two_pulls_of_one_layer_fetch_it_once(registry: FaultRegistry, transfers: Transfers) -> None:
    tar = make_tar({"data": noise(400_000)})
    image = registry.add_image("one", [tar])
    registry.add_image("two", [tar], config={"author": "somebody else"})
    hold = threading.Event()
    fault = registry.fault(image.layers[0], hold=hold, hold_after=100_000, times=1)
    first = transfers.start_pull(f"{registry.host}/one")
    assert fault.reached.wait(10)
    second = transfers.start_pull(f"{registry.host}/two")
    assert registry.wait_for(lambda: transfers.layer_jobs() == 2)
    hold.set()
    assert first.outcome().error is None
    assert second.outcome().error is None
    assert len(registry.asked(image.layers[0])) == 1
    assert len(transfers.graph.images) == 2
    assert transfers.partial() == {}


def test_the_second_goes_on_when_the_first_client_leaves(registry: FaultRegistry, transfers: Transfers) -> None:
    tar = make_tar({"data": noise(400_000)})
    image = registry.add_image("one", [tar])
    registry.add_image("two", [tar], config={"author": "somebody else"})
    fault = registry.fault(f"one/blobs/{image.layers[0]}", hold=threading.Event(), hold_after=100_000, times=1)
    first = transfers.start_pull(f"{registry.host}/one")
    assert fault.reached.wait(10)
    assert registry.wait_for(lambda: transfers.partial() == {image.layers[0].replace(":", "-"): 100_000})
    second = transfers.start_pull(f"{registry.host}/two")
    assert registry.wait_for(lambda: transfers.layer_jobs() == 2)
    first.cancel.cancel()
    assert isinstance(first.outcome().error, Cancelled)
    assert second.outcome().error is None
    assert [item.headers.get("range") for item in registry.asked(f"two/blobs/{image.layers[0]}")] == ["bytes=100000-"]


def test_a_cancelled_pull_ends_at_once_and_keeps_what_came(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    fault = registry.fault(image.layers[0], hold=threading.Event(), hold_after=100_000, times=1)
    pull = transfers.start_pull(f"{registry.host}/team/app")
    assert fault.reached.wait(10)
    name = image.layers[0].replace(":", "-")
    assert registry.wait_for(lambda: transfers.partial() == {name: 100_000})
    pull.cancel.cancel()
    assert isinstance(pull.outcome(4).error, Cancelled)
    assert transfers.partial() == {name: 100_000}
    assert transfers.graph.layers == {}
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert registry.asked(image.layers[0])[-1].headers["range"] == "bytes=100000-"


@pytest.mark.parametrize("part", ["/v2/", "/manifests/", "/blobs/"])
def test_a_registry_that_never_answers_does_not_hold_a_client(
    registry: FaultRegistry, transfers: Transfers, part: str
) -> None:
    registry.one_layer()
    fault = registry.fault(part, silent=True, hold=threading.Event())
    pull = transfers.start_pull(f"{registry.host}/team/app")
    assert fault.reached.wait(10)
    pull.cancel.cancel()
    assert isinstance(pull.outcome(3).error, Cancelled)


def test_one_bad_layer_stops_the_others(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.add_image("app", [make_tar({"data": noise(300_000, seed)}) for seed in range(3)])
    slow = registry.fault(image.layers[0], hold=threading.Event(), hold_after=1000)
    registry.fault(image.layers[2], corrupt=True, hold=slow.reached)
    outcome = transfers.start_pull(f"{registry.host}/app").outcome(4)
    assert slow.reached.is_set()
    assert str(outcome.error) == f"filesystem layer verification failed for digest {image.layers[2]}"


def test_layers_are_applied_in_order_whatever_comes_first(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.three_layers()
    hold = threading.Event()
    registry.fault(image.layers[0], hold=hold, hold_after=1)
    pull = transfers.start_pull(f"{registry.host}/team/app")
    assert registry.wait_for(lambda: len(registry.asked("/blobs/")) == 4)
    assert transfers.graph.registered == []
    hold.set()
    assert pull.outcome().error is None
    assert [transfers.graph.layers[chain].diff_id for chain in transfers.graph.registered] == image.diff_ids


def test_a_bad_layer_takes_the_others_parts_with_it(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.add_image("app", [make_tar({"data": noise(300_000, seed)}) for seed in range(3)])
    slow = registry.fault(image.layers[0], hold=threading.Event(), hold_after=1000)
    registry.fault(image.layers[2], corrupt=True, hold=slow.reached)
    assert isinstance(transfers.start_pull(f"{registry.host}/app").outcome(4).error, Corrupt)
    assert slow.reached.is_set()
    assert transfers.partial() == {}


def test_a_registry_that_fails_leaves_the_parts(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.one_layer()
    registry.fault(image.layers[0], cut=100_000, times=1)
    registry.fault(image.layers[0], status=403)
    assert isinstance(transfers.pull(f"{registry.host}/team/app").error, Refused)
    assert transfers.partial() == {image.layers[0].replace(":", "-"): 100_000}


def test_a_full_disk(registry: FaultRegistry, transfers: Transfers, monkeypatch: pytest.MonkeyPatch) -> None:
    image = registry.one_layer()

    def full(_file: int, _data: object, _offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyker.registry.downloads.os.pwrite", full)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert type(outcome.error) is NoSpace
    assert str(outcome.error).endswith(": no space left on device")
    assert transfers.partial() == {}
    assert len(registry.asked(image.layers[0])) == 1


# Other places


def test_a_mirror_comes_first(tmp_path: Path) -> None:
    with FaultRegistry() as main, FaultRegistry(host="127.0.0.2") as mirror:
        image = main.three_layers()
        mirror.three_layers()
        transfers = Transfers(tmp_path, options={"mirrors": (f"{main.host}={mirror.url}",)})
        assert transfers.pull(f"{main.host}/team/app").error is None
        assert main.requests == []
        assert list(transfers.graph.images) == [image.image_id]
        transfers.close()


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_mirror_that_asks_for_credentials_gets_none(tmp_path: Path, scheme: str) -> None:
    with FaultRegistry() as main, FaultRegistry(host="127.0.0.2") as mirror:
        for registry in (main, mirror):
            registry.three_layers()
            setattr(registry, scheme, ("user", "geheim"))
        transfers = Transfers(tmp_path, options={"mirrors": (f"{main.host}={mirror.url}",)})
        auth = RegistryAuth(username="user", password="geheim")
        assert transfers.pull(f"{main.host}/team/app", auth=auth).error is None
        assert mirror.requests != []
        assert not any("authorization" in item.headers or "account" in item.path for item in mirror.requests)
        transfers.close()


@pytest.mark.parametrize("how", ["gone", "unknown", "broken", "corrupt"])
def test_a_mirror_that_fails_is_passed_over(tmp_path: Path, how: str) -> None:
    with FaultRegistry() as main, FaultRegistry(host="127.0.0.2") as mirror:
        image = main.three_layers()
        url = mirror.url
        match how:
            case "gone":
                url = "http://127.0.0.1:1"
            case "broken":
                mirror.three_layers()
                mirror.fault("/manifests/", status=502)
            case "corrupt":
                mirror.three_layers()
                mirror.fault(image.layers[1], corrupt=True)
            case _:
                pass
        transfers = Transfers(tmp_path, options={"mirrors": (f"{main.host}={url}",)})
        assert transfers.pull(f"{main.host}/team/app").error is None
        assert list(transfers.graph.images) == [image.image_id]
        transfers.close()


def test_what_a_mirror_cut_off_is_finished_elsewhere(tmp_path: Path) -> None:
    with FaultRegistry() as main, FaultRegistry(host="127.0.0.2") as mirror:
        image = main.one_layer()
        mirror.one_layer()
        mirror.fault(image.layers[0], cut=200_000, times=1)
        mirror.fault(image.layers[0], status=404)
        transfers = Transfers(tmp_path, options={"mirrors": (f"{main.host}={mirror.url}",)})
        assert transfers.pull(f"{main.host}/team/app").error is None
        assert [item.headers.get("range") for item in main.asked(image.layers[0])] == ["bytes=200000-"]
        transfers.close()


def test_digests_are_what_sha256sum_says(registry: FaultRegistry) -> None:
    image = registry.three_layers()
    assert digest_of(registry.blobs[image.layers[0]]) == image.layers[0]
