"""The storage provider ``s3``."""

from latchflow.sdk import Plugin

from .config import S3Config
from .provider import S3Storage

plugin = Plugin()
plugin.provider(
    kind="storage",
    id="s3",
    display_name="S3",
    config_schema=S3Config,
    defaults={
        "bucket": "S3_BUCKET",
        "region": "S3_REGION",
        "endpointUrl": "S3_ENDPOINT_URL",
        "accessKeyId": "S3_ACCESS_KEY_ID",
        "secretAccessKey": "S3_SECRET_ACCESS_KEY",
    },
)(S3Storage)

__all__ = ["plugin"]
