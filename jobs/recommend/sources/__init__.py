"""Where histories and catalogues come from: files, MovieLens' folders, databases, AniList."""
