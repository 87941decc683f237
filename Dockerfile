# The wheel with its locked dependencies, in a virtual environment that the second stage takes as it is.
FROM python:3.13-slim-trixie AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements-build.lock requirements-serve.lock ./
RUN python -m venv /opt/build \
    && python -m venv --without-pip /opt/gateway \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements-build.lock \
    && /opt/build/bin/pip --python /opt/gateway/bin/python install --require-hashes --only-binary :all: -r requirements-serve.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
COPY resolvers ./resolvers
COPY schema ./schema
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /opt/build/wheels . \
    && /opt/build/bin/pip --python /opt/gateway/bin/python install --no-deps --no-index /opt/build/wheels/*.whl


FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="events-gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway
COPY --from=builder /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The folder belongs to root: nothing that the gateway writes can become code. /tmp is all that it writes to (the
# metrics of its workers).
WORKDIR /opt/gateway
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["gateway"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
