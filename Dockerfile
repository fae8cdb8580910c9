# Server, workers and CLI in one image; what runs is the command. Runs as a number, on a read-only root.
# Postgres is not in it: DATABASE_URL names one.
FROM python:3.12-slim AS build
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /usr/local/bin/uv
WORKDIR /app
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --extra traces --no-install-project
COPY migrations migrations
COPY proto proto
COPY docs/openapi.json docs/openapi.json
COPY examples examples
COPY src src
RUN uv sync --locked --no-dev --extra traces --no-editable

FROM python:3.12-slim
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
# A volume that is mounted here for the first time is its user's.
RUN install --directory --owner=65532 --group=65532 /var/lib/orchestrator/erasures
USER 65532:65532
EXPOSE 50051 8080 9464
ENTRYPOINT ["orchestrator"]
CMD ["serve"]
