# Targets, all from one lock:
#   docker build --target beam   -t visent-beam .     Beam workers (Dataflow, Flink, Spark): --sdk_container_image
#   docker build --target train  -t visent-train .    the trainer on CUDA
#   docker build --target laptop -t visent .          everything, on CPU: docker run -it visent demo --out /tmp/demo
FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 visent
WORKDIR /opt/visent
COPY requirements.lock setup.py pyproject.toml README.md ./
COPY visent visent
COPY tokenizer tokenizer
COPY manifests manifests
COPY pipelines pipelines
COPY trainer trainer

FROM base AS beam
RUN pip install -c requirements.lock '.[pipelines,annotators,onnx,huggingface,tfds]'
# The worker's entry point must be of the same version as the SDK in requirements.lock.
COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam
USER visent
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM base AS train
RUN pip install -c requirements.lock '.[train,cuda]'
USER visent
ENTRYPOINT ["visent"]

FROM base AS laptop
RUN pip install -c requirements.lock '.[demo]'
USER visent
ENTRYPOINT ["visent"]
