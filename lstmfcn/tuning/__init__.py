"""What a sweep searches, and what it found."""
