"""All that speaks S3PRL: what makes it run, registration, configs, heads, experts, the runner, submission."""
