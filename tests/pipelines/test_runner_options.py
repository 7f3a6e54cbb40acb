"""What a job on other machines needs: filled in from few options, or refused with the reason."""

import socket
from pathlib import Path

import pytest

from pipelines.job import Job, Work
from pipelines.runners import options as runner_options
from pipelines.runners.accelerators import GPUS, SHORT, TPUS, gpu, tpu
from pipelines.runners.handout import MAX_BYTES, hand_out, names_of, take_back, taken
from pipelines.runners.options import (
    Place,
    arguments_at,
    beam_options,
    check_endpoint,
    check_in_reach,
    has_containers,
    is_dry,
    runs_here,
)
from pipelines.sources.base import Item, Unit
from pipelines.sources.folder import FolderSource
from visent.errors import UserError

OUT = "gs://photos-bucket/corpus/My Photos"
DATAFLOW = {"runner": "DataflowRunner", "project": "my-project", "region": "europe-west4"}


def options(**place: object) -> dict[str, object]:
    return dict(beam_options(arguments_at(Place(**place), OUT)).get_all_options())  # type: ignore[arg-type]


def test_a_gpu_fills_in_all_that_dataflow_needs_of_it() -> None:
    filled = options(**DATAFLOW, gpu="nvidia-l4", workers=50)
    assert filled["dataflow_service_options"] == ["worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver:5xx"]
    assert filled["experiments"] == ["no_use_multiple_sdk_containers"]
    expected = {
        "machine_type": "g2-standard-8", "number_of_worker_harness_threads": 2, "max_num_workers": 50,
        "sdk_container_image": "europe-west4-docker.pkg.dev/my-project/visent/beam-cuda:0.1.0", "disk_size_gb": 100,
        "temp_location": "gs://photos-bucket/visent-temp", "save_main_session": False, "region": "europe-west4",
    }  # fmt: skip
    assert {name: filled[name] for name in expected} == expected
    assert str(filled["job_name"]).startswith("visent-my-photos-")


def test_a_tpu_slice_has_its_machine_its_topology_and_its_image() -> None:
    filled = options(**DATAFLOW, tpu="v5e", devices_per_worker=4)
    assert filled["dataflow_service_options"] == ["worker_accelerator=type:tpu-v5-lite-podslice;topology:2x2"]
    assert filled["machine_type"] == "ct5lp-hightpu-4t"
    assert str(filled["sdk_container_image"]).endswith("/visent/beam-tpu:0.1.0")
    assert filled["number_of_worker_harness_threads"] == 5


def test_cpu_workers_need_no_accelerator() -> None:
    filled = options(**DATAFLOW)
    assert filled["dataflow_service_options"] is None
    assert str(filled["sdk_container_image"]).endswith("/visent/beam-cpu:0.1.0")
    assert filled["machine_type"] == "n2-standard-8"


def test_beam_options_after_the_dashes_go_before_what_is_filled_in() -> None:
    own = ("--machine_type=g2-standard-16", "--disk_size_gb=200", "--experiments=enable_prime", "--job_name=mine",
           "--sdk_container_image=gcr.io/mine/image")  # fmt: skip
    filled = options(**DATAFLOW, gpu="l4", beam=own)
    assert (filled["machine_type"], filled["disk_size_gb"], filled["job_name"]) == ("g2-standard-16", 200, "mine")
    assert filled["sdk_container_image"] == "gcr.io/mine/image"
    assert filled["experiments"] == ["no_use_multiple_sdk_containers", "enable_prime"]


def test_dataflow_after_the_dashes_is_filled_in_as_well() -> None:
    beam = ("--runner=DataflowRunner", "--project=my-project", "--region=us-east1")
    filled = options(gpu="t4", image="gcr.io/mine/image", beam=beam)
    assert (filled["machine_type"], filled["project"], filled["region"]) == ("n1-standard-8", "my-project", "us-east1")
    with pytest.raises(UserError, match="give --image"):
        options(gpu="t4", beam=beam)


def test_workers_are_processes_here_and_parallelism_on_flink() -> None:
    here = beam_options(arguments_at(Place(workers=3), "out"))
    assert not runs_here(here)
    assert here.get_all_options()["direct_num_workers"] == 3
    assert runs_here(beam_options(arguments_at(Place(workers=1), "out")))
    flink = options(runner="FlinkRunner", workers=8, image="my/image")
    assert (flink["parallelism"], flink["environment_type"], flink["environment_config"]) == (8, "DOCKER", "my/image")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"runner": "DataflowRuner"}, "unknown runner 'DataflowRuner': did you mean 'DataflowRunner'"),
        ({"runner": "DataflowRunner"}, "needs --project, --region"),
        ({**DATAFLOW, "region": "europe-wset4"}, "--region europe-wset4 is none of Google Cloud's"),
        ({**DATAFLOW, "temp_location": "/tmp/x"}, "Dataflow's files go to a bucket"),
        ({**DATAFLOW, "project": "My Project"}, r"Invalid Project ID \(My Project\)"),
        ({**DATAFLOW, "gpu": "l5"}, "unknown GPU 'l5': did you mean 'l4'"),
        ({**DATAFLOW, "tpu": "v9"}, "unknown TPU 'v9'"),
        ({**DATAFLOW, "gpu": "l4", "tpu": "v5e"}, "leave one out"),
        ({**DATAFLOW, "gpu": "l4", "devices_per_worker": 3}, "--devices-per-worker is one of 1, 2, 4, 8"),
        ({**DATAFLOW, "devices_per_worker": 3}, "give --gpu or --tpu"),
        ({"gpu": "l4"}, "--gpu is for Dataflow: add --runner DataflowRunner"),
        ({"image": "x"}, "--image is for workers in containers"),
        ({"runner": "SparkRunner", "workers": 4}, "SparkRunner takes what its cluster gives it"),
        ({**DATAFLOW, "beam": ("--machine_typ=x",)}, "did you mean 'machine_type'"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_fix(place: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        options(**place)


def test_workers_in_containers_get_the_package_and_others_have_it() -> None:
    def contained(*arguments: str) -> bool:
        return has_containers(beam_options(arguments))

    assert contained("--runner=DataflowRunner")
    assert contained("--runner=FlinkRunner")
    assert contained("--runner=PortableRunner", "--environment_type=DOCKER")
    assert not contained("--runner=PortableRunner", "--environment_type=EXTERNAL")
    assert not contained()
    assert not contained("--runner=DirectRunner", "--direct_running_mode=multi_processing")


def test_every_accelerator_has_a_machine_and_an_option_for_each_number() -> None:
    for kind in (*map(gpu, (*GPUS, *SHORT)), *map(tpu, TPUS)):
        for devices, machine in kind.machines.items():
            assert machine
            assert kind.type in kind.option(devices)


def test_paths_of_this_machine_are_refused_for_workers_on_others(tmp_path: Path, tiny: str) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=r"--out is corpus/d, which Dataflow's workers cannot see"):
        arguments_at(Place(**DATAFLOW), "corpus/d")  # type: ignore[arg-type]
    here = beam_options(arguments_at(Place(**DATAFLOW), OUT))  # type: ignore[arg-type]
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=3)
    with pytest.raises(UserError, match=r"source is .*/in, which Dataflow's"):
        check_in_reach(Job(out=OUT, name="d", source=source), here)
    check_in_reach(Job(out=str(tmp_path), name="d", source=source, tokenizer=tiny), beam_options([]))


def test_a_dry_run_is_an_option_of_the_job() -> None:
    assert is_dry(beam_options(arguments_at(Place(dry_run=True), OUT)))
    assert not is_dry(beam_options(arguments_at(Place(), OUT)))


def test_units_travel_in_files_of_a_mebibyte_and_come_back_in_order(tmp_path: Path) -> None:
    items = tuple(Item(key=f"key-{i}", files={"image": f"folder/{i}.jpg"}) for i in range(100))
    works = [Work(unit=Unit(id=f"train-{i:05d}-of-00300", split="train", items=items)) for i in range(300)]
    names = hand_out(str(tmp_path), works)
    assert names == names_of(works)
    assert len(names) > 1
    assert all((tmp_path / name).stat().st_size <= MAX_BYTES for name in names)
    assert [Work.from_json(line) for name in names for line in taken(str(tmp_path), name)] == works
    take_back(str(tmp_path), names)
    assert not any((tmp_path / name).exists() for name in names)


def test_a_job_server_that_nobody_runs_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_options, "ENDPOINT_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=f"--job_endpoint {address}: nobody answered .* start it, or mend the address"):
        check_endpoint(beam_options(["--runner=PortableRunner", f"--job_endpoint={address}"]))
