# The application image: API, worker and command line in one; the command chooses.
FROM python:3.11-slim AS build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Requirements first, so that a change of the code does not install them again.
COPY requirements/runtime.txt /src/requirements/runtime.txt
RUN pip install --require-hashes -r /src/requirements/runtime.txt
COPY . /src
RUN pip install hatchling && pip install --no-deps --no-build-isolation /src && pip uninstall --yes hatchling

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin latchflow
COPY --from=build /opt/venv /opt/venv
COPY --from=build /src/worker.py /src/promote.py /app/
COPY --from=build /src/api /app/api
COPY --from=build /src/activities /app/activities
COPY --from=build /src/workflows /app/workflows
COPY --from=build /src/plugins /app/plugins
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 LATCHFLOW_HOME=/app
WORKDIR /app
# A volume that is mounted here for the first time belongs to whom this folder belongs to.
RUN install --directory --owner=latchflow --mode=0700 /var/lib/latchflow
USER latchflow
EXPOSE 8080 9464
CMD ["latchflow", "api"]
