"""Moving artifacts to and from S3, and auditing them, beside boto3's TransferManager, the AWS CLI and a script."""
