"""What the manager and a session tell each other. Both import it, so it imports only what travels into a session."""
