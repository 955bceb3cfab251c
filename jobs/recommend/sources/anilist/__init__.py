"""AniList: histories of its users and what it knows of anime (https://docs.anilist.co)."""
