"""Jobs that the chaos suite runs: they leave traces that prove how often they ran."""
