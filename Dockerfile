# One image for every service: the command `comms run NAME` chooses the service that a container runs.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/comms
COPY . .
RUN /opt/comms/bin/pip install --no-cache-dir --constraint constraints.lock '.[registry,smpp]'

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/comms --create-home comms
COPY --from=build /opt/comms /opt/comms
ENV PATH=/opt/comms/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    COMMS_HTTP_HOST=0.0.0.0 \
    COMMS_HTTP_PORT=8080 \
    COMMS_DATA_DIR=/var/lib/comms
USER comms
WORKDIR /var/lib/comms
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['COMMS_HTTP_PORT'] + '/readyz', timeout=2)"]
ENTRYPOINT ["comms"]
CMD ["run", "app"]
