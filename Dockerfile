# One image for every process of the system; the command says which one (docker-compose.yml).
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/ipa
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY actors actors
COPY cli cli
COPY config config
COPY messaging messaging
COPY ml ml
COPY simulator simulator
COPY storage storage
COPY web web
RUN /opt/ipa/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /tmp --shell /usr/sbin/nologin ipa
COPY --from=build /opt/ipa /opt/ipa
ENV PATH=/opt/ipa/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1
WORKDIR /tmp
USER 10001
CMD ["ipa", "--help"]
