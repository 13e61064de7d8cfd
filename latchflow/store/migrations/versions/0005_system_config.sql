-- What admins configure at run time. Values are sealed, whatever they are.
CREATE TABLE system_config (
    key text PRIMARY KEY,           -- SMTP_URL | SMTP_FROM | HTTP_EGRESS_ALLOW | PLUGIN_{NAME}_PROVIDER_{ID}
    value_sealed bytea NOT NULL,
    is_secret boolean NOT NULL,     -- never shown, not even in parts
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_by text NOT NULL
);
