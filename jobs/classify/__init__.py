"""Text classifiers: teachers, students and their predictions."""
