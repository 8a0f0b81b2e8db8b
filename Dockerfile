# One image for scheduler, workers, watcher, Prefect's server and the command line: one lock, one set of versions.
# PyPI's torch for Linux brings CUDA along, so CPU and GPU workers run the same image (about 8 GB unpacked).
# Not built where this was written, which has no docker engine: `make verify-compose` builds and tries it.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/searchanything
WORKDIR /build
COPY requirements/service.lock requirements/build.lock requirements/
# The locks have hashes and are complete: nothing else can be installed.
RUN /opt/searchanything/bin/pip install --require-hashes --no-deps -r requirements/service.lock \
 && pip install --require-hashes --no-deps -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY flows flows
COPY searchanything searchanything
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
 && /opt/searchanything/bin/pip install --no-deps wheels/searchanything-*.whl

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home searchanything \
 && install -d -o searchanything -g searchanything /weights /state
COPY --from=build /opt/searchanything /opt/searchanything
ENV PATH=/opt/searchanything/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SEARCHANYTHING_MODELS__WEIGHTS_DIR=/weights \
    PREFECT_HOME=/tmp/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
USER searchanything
WORKDIR /state
VOLUME /weights
CMD ["searchanything", "--help"]
