# A small image of one node: docker build -t kpybroker . ; what it takes and keeps: docs/container.md
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python3 -m venv /opt/kpybroker
# Every package in the version, and with the hash, that the lock files have. They change seldom, so their layer is kept.
COPY requirements/run.txt requirements/prometheus.txt requirements/
RUN /opt/kpybroker/bin/pip install --no-cache-dir --require-hashes -r requirements/run.txt -r requirements/prometheus.txt
COPY pyproject.toml README.md LICENSE ./
COPY kpybroker kpybroker
COPY wire wire
COPY storage storage
RUN /opt/kpybroker/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/kpybroker/bin/pip uninstall --yes setuptools pip

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="kpybroker" \
      org.opencontainers.image.description="A broker in Python that speaks Apache Kafka's wire protocol" \
      org.opencontainers.image.licenses="Apache-2.0"
# The user, the data and the mounted settings are where the apache/kafka image has them.
RUN groupadd --gid 1000 appuser && useradd --uid 1000 --gid 1000 --no-create-home --shell /usr/sbin/nologin appuser \
    && install -d -o appuser -g appuser /var/lib/kafka/data /mnt/shared/config
COPY --from=build /opt/kpybroker /opt/kpybroker
ENV PATH=/opt/kpybroker/bin:$PATH
USER appuser
WORKDIR /var/lib/kafka
VOLUME ["/var/lib/kafka/data", "/mnt/shared/config"]
EXPOSE 9092
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=5s --retries=3 CMD ["kpybroker", "ping", "--container"]
ENTRYPOINT ["kpybroker", "container"]
