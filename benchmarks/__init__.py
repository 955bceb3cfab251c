"""Every figure that the README quotes, each with the peer it is measured against."""
