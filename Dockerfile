# Two images of one wheel. `service` (the default): scheduler, workers, watcher, Prefect's server and the command line, with
# one lock, so that all have the same versions. `serve`: the web page and REST, without Prefect and Dask.
#   docker build -t searchanything:local .            docker build --target serve -t searchanything-serve:local .
# PyPI's torch for Linux brings CUDA along, so CPUs and GPUs run the same images (`serve`: 6.8 GB, `service`: 7.2 GB, more than 5 of
# them CUDA, triton and torch). Built over a stand-in of the base image; docs/deployment.md says what was tried, and what was not.

FROM python:3.11-slim-bookworm AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements/build.lock requirements/
# The locks have hashes and are complete: nothing else can be installed.
RUN pip install --require-hashes --no-deps -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY flows searchanything_flows
COPY searchanything searchanything
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels .

FROM python:3.11-slim-bookworm AS empty
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/searchanything
WORKDIR /build

FROM empty AS serve-packages
COPY requirements/serve.lock requirements/
RUN /opt/searchanything/bin/pip install --require-hashes --no-deps -r requirements/serve.lock
COPY --from=wheel /build/wheels wheels
RUN /opt/searchanything/bin/pip install --no-deps wheels/searchanything-*.whl

FROM empty AS service-packages
COPY requirements/service.lock requirements/
RUN /opt/searchanything/bin/pip install --require-hashes --no-deps -r requirements/service.lock
COPY --from=wheel /build/wheels wheels
RUN /opt/searchanything/bin/pip install --no-deps wheels/searchanything-*.whl

FROM python:3.11-slim-bookworm AS runtime
RUN useradd --uid 10001 --create-home searchanything \
 && install -d -o searchanything -g searchanything /weights /state /serve /cluster
ENV PATH=/opt/searchanything/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SEARCHANYTHING_MODELS__WEIGHTS_DIR=/weights \
    SEARCHANYTHING_MILVUS__URI=/state/index.db
# Without a Milvus server the index is a file in /state: mount a volume there, or it is gone with the container.
USER searchanything
WORKDIR /state
VOLUME /weights

FROM runtime AS serve
COPY --from=serve-packages /opt/searchanything /opt/searchanything
# Published ports do not reach a container's loopback. Beyond it keys are demanded: searchanything keys add NAME
ENV SEARCHANYTHING_SERVE__FOLDER=/serve \
    SEARCHANYTHING_SERVE__HOST=0.0.0.0
EXPOSE 8600
# It lives; /readyz says whether there is an index yet. Without urllib, which would ask a proxy.
HEALTHCHECK --interval=15s --timeout=10s --start-period=90s --retries=8 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('SEARCHANYTHING_SERVE__PORT', '8600')), timeout=5); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
CMD ["searchanything", "serve"]

# No HEALTHCHECK of its own: scheduler, worker and watcher are different commands; docker-compose.yml has one for each.
FROM runtime AS service
COPY --from=service-packages /opt/searchanything /opt/searchanything
ENV PREFECT_HOME=/tmp/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
CMD ["searchanything", "--help"]
