# Run by the Job minio-setup. Every line can be repeated.
set -eu
mc alias set store http://minio:9000 "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD"
mc mb --ignore-existing store/leti
mc admin policy create store leti-stage /setup/stage.json
mc admin policy create store leti-execute /setup/execute.json
mc admin user add store "$STAGE_USER" "$STAGE_PASSWORD"
mc admin user add store "$EXECUTE_USER" "$EXECUTE_PASSWORD"
# Attaching what is attached is an error to mc.
mc admin policy attach store leti-stage --user "$STAGE_USER" || mc admin policy entities store --user "$STAGE_USER"
mc admin policy attach store leti-execute --user "$EXECUTE_USER" || mc admin policy entities store --user "$EXECUTE_USER"
