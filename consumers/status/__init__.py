"""What a channel process reports: status events about messages, and readiness about itself."""
