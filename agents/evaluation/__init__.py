"""How planners are judged: episodes recorded and scored, spread over processes, compared between worlds, and reported."""
