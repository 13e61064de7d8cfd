import pytest
from temporalio.client import Client

from latchflow.errors import LatchflowError
from latchflow.temporal.client import check_namespace


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "cannot be reached: nobody answers there. Start it"),
        ("nobody.invalid:7233", "cannot be reached: its host name is not known. Start it"),
        ("127.0.0.1:99999", "cannot be used: invalid target URL: invalid port number. Correct"),
    ],
)
async def test_an_address_where_temporal_is_not_is_explained_in_words(address: str, reason: str) -> None:
    client = await Client.connect(address, lazy=True)

    with pytest.raises(LatchflowError) as caught:
        await check_namespace(client)

    assert reason in caught.value.message
    assert "tonic" not in caught.value.message
