FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/ requirements/
# Each wheel must have a hash that requirements/*.txt names; nothing is compiled.
RUN python -m venv /opt/punctual \
 && /opt/punctual/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/runtime.txt \
 && pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/build.txt
COPY . .
RUN python -m hatchling build --target wheel \
 && /opt/punctual/bin/pip install --no-cache-dir --no-deps --no-index dist/*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin punctual
COPY --from=build /opt/punctual /opt/punctual
ENV PATH=/opt/punctual/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ENVIRONMENT=production
WORKDIR /opt/punctual
USER 10001:10001
EXPOSE 8000
# /readyz answers 200 once the API can reach what it needs. A `work` container has no port: switch this off there.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["punctual"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
