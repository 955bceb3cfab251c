"""What is asked of AniList, in GraphQL."""

from typing import Final

PER_CHUNK: Final = 500  # entries of a list in one answer, AniList's most
PER_PAGE: Final = 50  # media in one answer, AniList's most

# Custom lists are read too: a user may hide entries from the default ones. So an entry may come more than once.
LIST: Final = """
query ($userName: String, $chunk: Int, $perChunk: Int) {
  MediaListCollection(
    userName: $userName, type: ANIME, chunk: $chunk, perChunk: $perChunk, forceSingleCompletedList: true
  ) {
    hasNextChunk
    user { id name }
    lists {
      entries {
        mediaId
        status
        score(format: POINT_100)
        updatedAt
        completedAt { year month day }
        media { idMal }
      }
    }
  }
}"""

MEDIA: Final = """
query ($ids: [Int], $page: Int, $perPage: Int) {
  Page(page: $page, perPage: $perPage) {
    pageInfo { hasNextPage }
    media(id_in: $ids, type: ANIME, sort: [ID]) {
      id
      idMal
      title { romaji english native }
      format
      genres
      tags { name rank }
      studios(isMain: true) { nodes { name } }
      characters(role: MAIN, sort: [RELEVANCE], perPage: 10) {
        edges { voiceActors(language: JAPANESE) { name { full } } }
      }
      seasonYear
      startDate { year }
      isAdult
      averageScore
      popularity
    }
  }
}"""
