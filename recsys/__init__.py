"""The recommender system itself: data, models, evaluation, lists. Knows no orchestrator, tracker, or environment."""
