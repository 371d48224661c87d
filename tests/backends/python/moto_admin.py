"""Sets up moto's S3, IAM and STS, and reads what was stored.

usage: moto_admin.py URL prepare             prints the access key of the gateway's user
       moto_admin.py URL role EXTERNAL_ID    a role that demands this id and may write to `traces`; then checks begin
       moto_admin.py URL objects ID SECRET   every object of `traces`, as the administrator reads it
"""
import json
import sys
import urllib.request

import boto3

URL, COMMAND, *REST = sys.argv[1:]


def client(service, key_id="nobody", secret="nothing"):
    return boto3.client(
        service, endpoint_url=URL, region_name="us-east-1", aws_access_key_id=key_id, aws_secret_access_key=secret
    )


def policy(**statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


def user(iam, name, document):
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return [key["AccessKeyId"], key["SecretAccessKey"]]


if COMMAND == "prepare":
    client("s3").create_bucket(Bucket="traces")
    iam = client("iam")
    gateway = user(iam, "gateway", policy(Action="sts:AssumeRole", Resource="*"))
    administrator = user(iam, "administrator", policy(Action="*", Resource="*"))
    print(json.dumps({"gateway": gateway, "administrator": administrator}))
elif COMMAND == "role":
    iam = client("iam")
    trust = policy(
        Action="sts:AssumeRole", Principal={"AWS": "*"}, Condition={"StringEquals": {"sts:ExternalId": REST[0]}}
    )
    role = iam.create_role(RoleName="writer", AssumeRolePolicyDocument=trust)["Role"]
    may_write = policy(Action="s3:PutObject", Resource="arn:aws:s3:::traces/*")
    iam.put_role_policy(RoleName="writer", PolicyName="write", PolicyDocument=may_write)
    # From now on every call is checked.
    reset = urllib.request.Request(f"{URL}/moto-api/reset-auth", b"0", {"content-type": "text/plain"}, method="POST")
    urllib.request.urlopen(reset).read()
    print(json.dumps(role["Arn"]))
else:
    s3 = client("s3", *REST)
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket="traces").get("Contents", [])]
    bodies = {key: s3.get_object(Bucket="traces", Key=key)["Body"].read().decode() for key in keys}
    print(json.dumps(bodies))
