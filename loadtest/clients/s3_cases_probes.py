"""Cases of s3_suite.py: configuration that a bucket does not have. Reads are well-formed, writes are refused and change
nothing."""

from s3_suite import answered, case, equal, refused

EMPTY = {
    "get_bucket_logging": {},
    "get_bucket_notification_configuration": {},
    "get_bucket_accelerate_configuration": {},
    "get_bucket_request_payment": {"Payer": "BucketOwner"},
    "get_bucket_ownership_controls": {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
    "list_bucket_inventory_configurations": {"IsTruncated": False},
    "list_bucket_analytics_configurations": {"IsTruncated": False},
    "list_bucket_metrics_configurations": {"IsTruncated": False},
    "list_bucket_intelligent_tiering_configurations": {"IsTruncated": False},
}

ABSENT = {
    "get_bucket_website": ("NoSuchWebsiteConfiguration", {}),
    "get_bucket_replication": ("ReplicationConfigurationNotFoundError", {}),
    "get_public_access_block": ("NoSuchPublicAccessBlockConfiguration", {}),
    "get_bucket_policy_status": ("NoSuchBucketPolicy", {}),
    "get_bucket_policy": ("NoSuchBucketPolicy", {}),
    "get_bucket_inventory_configuration": ("NoSuchConfiguration", {"Id": "x"}),
    "get_bucket_analytics_configuration": ("NoSuchConfiguration", {"Id": "x"}),
    "get_bucket_metrics_configuration": ("NoSuchConfiguration", {"Id": "x"}),
    "get_bucket_intelligent_tiering_configuration": ("NoSuchConfiguration", {"Id": "x"}),
}

BLOCK = {name: True for name in ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")}
TARGET = {"S3BucketDestination": {"Bucket": "arn:aws:s3:::x", "Format": "CSV"}}
WRITES = [
    ("put_bucket_website", {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}}}),
    ("delete_bucket_website", {}),
    ("put_bucket_logging", {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": "x", "TargetPrefix": "p"}}}),
    ("put_bucket_notification_configuration", {"NotificationConfiguration": {"EventBridgeConfiguration": {}}}),
    ("put_bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Enabled"}}),
    ("put_bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
    ("put_bucket_ownership_controls", {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}}),
    ("delete_bucket_ownership_controls", {}),
    ("put_public_access_block", {"PublicAccessBlockConfiguration": BLOCK}),
    ("delete_public_access_block", {}),
    ("put_bucket_policy", {"Policy": "{}"}),
    ("delete_bucket_policy", {}),
    ("put_bucket_replication", {"ReplicationConfiguration": {"Role": "r", "Rules": [
        {"Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::x"}, "Prefix": ""}]}}),
    ("delete_bucket_replication", {}),
    ("put_bucket_inventory_configuration", {"Id": "x", "InventoryConfiguration": {
        "Destination": {"S3BucketDestination": {"Bucket": "arn:aws:s3:::x", "Format": "CSV"}}, "IsEnabled": True, "Id": "x",
        "IncludedObjectVersions": "All", "Schedule": {"Frequency": "Daily"}}}),
    ("delete_bucket_inventory_configuration", {"Id": "x"}),
    ("put_bucket_metrics_configuration", {"Id": "x", "MetricsConfiguration": {"Id": "x"}}),
    ("delete_bucket_metrics_configuration", {"Id": "x"}),
    ("put_bucket_analytics_configuration", {"Id": "x", "AnalyticsConfiguration": {"Id": "x", "StorageClassAnalysis": {}}}),
    ("delete_bucket_analytics_configuration", {"Id": "x"}),
    ("put_bucket_intelligent_tiering_configuration", {"Id": "x", "IntelligentTieringConfiguration": {
        "Id": "x", "Status": "Enabled", "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}]}}),
    ("delete_bucket_intelligent_tiering_configuration", {"Id": "x"}),
]


def state(t):
    """Everything that a client can read of the bucket's configuration."""
    shown = {}
    for name in EMPTY:
        shown[name] = {k: v for k, v in getattr(t.s3, name)(Bucket=t.bucket).items() if k != "ResponseMetadata"}
    for name, (code, more) in ABSENT.items():
        refused(code, getattr(t.s3, name), Bucket=t.bucket, status=404, **more)
        shown[name] = code
    return shown


@case
def probes_of_a_plain_bucket_are_well_formed(t):
    shown = state(t)
    for name, wanted in EMPTY.items():
        equal(shown[name], wanted, name)
    for name in [*EMPTY, *ABSENT]:
        more = ABSENT.get(name, ("", {}))[1]
        refused("NoSuchBucket", getattr(t.s3, name), Bucket=t.bucket + "-absent", status=404, **more)


@case
def settings_that_do_not_exist_are_refused_and_change_nothing(t):
    t.put("k", b"kept")
    before = state(t)
    for name, more in WRITES:
        error = refused("NotImplemented", getattr(t.s3, name), Bucket=t.bucket, status=501, **more)
        assert "not implemented" in error["Error"]["Message"], f"{name}: {error['Error']}"
    equal(state(t), before, "configuration")
    equal(t.body("k"), b"kept", "body")


@case
def the_location_is_written_as_old_sdks_read_it(t):
    answer = t.raw.call("GET", t.path, "location=")
    answered(answer, 200)
    text = answer.body.decode()
    assert "<LocationConstraint" in text and "us-east-1" not in text, text
    equal(t.s3.get_bucket_location(Bucket=t.bucket)["LocationConstraint"], None, "as boto3 reads it")
    equal(t.s3.head_bucket(Bucket=t.bucket)["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"], "us-east-1", "region")
    refused("NoSuchBucket", t.s3.get_bucket_location, Bucket=t.bucket + "-absent", status=404)
