"""What `trivet up` prints once the store answers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from compose import credentials
from compose.data_dir import DataDir


def banner(
    endpoint: str,
    *,
    region: str,
    data: DataDir,
    root: credentials.RootCredentials,
    environment: Mapping[str, str],
) -> str:
    """What a person needs to begin, on stdout; the log, which is kept, goes to stderr and holds no secret."""
    if credentials.from_environment(environment) is not None:
        secret = f"as given in {credentials.SECRET_KEY_VARIABLE}"
        variables = (
            f'AWS_ACCESS_KEY_ID="${credentials.ACCESS_KEY_VARIABLE}" '
            f'AWS_SECRET_ACCESS_KEY="${credentials.SECRET_KEY_VARIABLE}" aws'
        )
    else:
        secret = root.secret_key
        path = shlex.quote(str(data.credentials))
        variables = f"AWS_SHARED_CREDENTIALS_FILE={path} aws --profile {credentials.PROFILE}"
    aws = f"{variables} --endpoint-url {endpoint} --region {region}"
    return (
        f"\nTrivet is up. Ctrl-C stops it.\n\n"
        f"  endpoint    {endpoint}\n"
        f"  region      {region}\n"
        f"  access key  {root.access_key}\n"
        f"  secret key  {secret}\n"
        f"  data        {data.root}\n\n"
        f"Lines to paste in another terminal:\n\n"
        f"  {aws} s3 mb s3://first\n"
        f"  {aws} s3 ls\n"
    )
