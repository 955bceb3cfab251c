"""What text classifiers are made of: data, networks, training, artifacts; for the families that make and use them."""
