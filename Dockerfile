# The default build image: Python with pyarrow, numpy and Pillow, and nothing that a pipeline could write to.
#
# Built by `coral build` where a pipeline names no environment; its identity is this file, the resolved base and the
# platform. `wheels/` in the context is optional: with it nothing is fetched while building.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS packages
ARG REQUIREMENTS="numpy==2.4.6 pillow==13.0.0 pyarrow==26.0.1"
# The pattern may match nothing; COPY needs one source that exists, and this file does.
COPY Dockerfile wheel[s] /opt/wheels/
# A virtual environment, because Debian's own Python is externally managed.
RUN python3 -m venv /opt/coral \
    && if ls /opt/wheels/*.whl >/dev/null 2>&1; then offline="--no-index --find-links /opt/wheels"; else offline=""; fi \
    && /opt/coral/bin/python -m pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --no-deps \
       $offline $REQUIREMENTS \
    && /opt/coral/bin/python -c "import numpy, PIL.Image, pyarrow"

FROM ${BASE_IMAGE}
COPY --from=packages /opt/coral /opt/coral
ENV PATH=/opt/coral/bin:$PATH
USER 65534:65534
WORKDIR /tmp
CMD ["python3"]
