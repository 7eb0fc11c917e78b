# The server with everything it needs inside, models included. `docker compose up` builds and runs it.

FROM python:3.11-slim-bookworm AS base
# llama.cpp links to the OpenMP runtime.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/voice-server/bin:$PATH \
    VOICE_MODELS_DIR=/opt/voice-server/models


FROM base AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/voice-server
COPY requirements/runtime.lock requirements/
RUN pip install --no-deps --require-hashes --only-binary :all: -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY media media
COPY pipeline pipeline
COPY server server
COPY tokens tokens
RUN pip install --no-deps --no-build-isolation . \
 && voice-server setup
# What only the installation needed.
RUN pip uninstall --yes editables hatchling trove-classifiers setuptools pip


FROM base
RUN useradd --system --uid 10001 --no-create-home --home-dir /data voice-server \
 && install -d -o voice-server -g voice-server -m 700 /data
COPY --from=build /opt/voice-server /opt/voice-server
COPY docker/healthcheck.py /opt/voice-server/healthcheck.py
# Inside a container loopback would be nobody's; who may reach the port is decided where it is published.
ENV PYTHONUNBUFFERED=1 \
    VOICE_HOST=0.0.0.0 \
    VOICE_PORT=8080 \
    VOICE_UDP_PORT=40000 \
    VOICE_DATA_DIR=/data
USER voice-server
WORKDIR /data
VOLUME /data
EXPOSE 8080/tcp 40000/udp
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "/opt/voice-server/healthcheck.py"]
# The exec form makes the server process 1, so that SIGTERM reaches it and calls may finish.
STOPSIGNAL SIGTERM
ENTRYPOINT ["voice-server"]
CMD ["serve"]
