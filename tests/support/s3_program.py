"""A program: OpenStack Swift with its S3 API, whole, in one process on the loopback address.

It is a real object store that checks signatures and takes multipart uploads; its four servers share this process, so
that a test can afford them. Run it with a folder; it writes the port of its S3 API, and serves until it is killed.
"""

import eventlet

eventlet.monkey_patch()

import json  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import eventlet.wsgi  # noqa: E402
from swift.common import utils, wsgi  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.utils import NullLogger  # noqa: E402

KEY_ID, SECRET = "test:tester", "testing"

_PROXY = """
[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors gatekeeper memory listing_formats bulk s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:memory]
paste.filter_factory = s3_program:memory_filter
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
rate_limit_under_size = 0
[filter:dlo]
use = egg:swift#dlo
"""
_BACKEND = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""


class Memory(dict[str, Any]):
    """What Swift would keep in memcached."""

    def set(self, key: str, value: Any, **_: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def incr(self, key: str, delta: int = 1, **_: Any) -> int:
        self[key] = int(self.get(key) or 0) + delta
        return int(self[key])

    def get(self, key: str, raise_on_error: bool = False, default: Any = None) -> Any:  # type: ignore[override]
        return super().get(key, default)

    def delete(self, key: str, **_: Any) -> None:
        self.pop(key, None)


def memory_filter(_: Any, **__: Any) -> Any:
    memory = Memory()

    def around(app: Any) -> Any:
        def serve(env: dict[str, Any], start_response: Any) -> Any:
            env["swift.cache"] = memory
            return app(env, start_response)

        return serve

    return around


def main(folder: Path) -> None:
    logging.disable(logging.CRITICAL)
    sys.modules["s3_program"] = sys.modules[__name__]
    (folder / "devices" / "one").mkdir(parents=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
    utils.set_swift_dir(str(folder))
    sockets = {name: eventlet.listen(("127.0.0.1", 0)) for name in ("account", "container", "object", "proxy")}
    for name in ("account", "container", "object"):
        builder = RingBuilder(part_power=1, replicas=1, min_part_hours=0)
        port = sockets[name].getsockname()[1]
        builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "one", "weight": 1.0})
        builder.rebalance()
        builder.get_ring().save(str(folder / f"{name}.ring.gz"))
    for name, socket in sockets.items():
        config = folder / f"{name}.conf"
        config.write_text((_PROXY if name == "proxy" else _BACKEND).format(folder=folder, name=name))
        app = wsgi.loadapp(str(config))
        protocol = wsgi.SwiftHttpProtocol
        eventlet.spawn(eventlet.wsgi.server, socket, app, NullLogger(), protocol=protocol, log_output=False)
    sys.stdout.write(f"{sockets['proxy'].getsockname()[1]}\n")
    sys.stdout.flush()
    eventlet.sleep(86_400)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
