package backup

// Limits and readers that tests need.
const (
	ChunkSize     = chunkSize
	ChunksInIndex = chunksInIndex
)

// SetChunkSize makes data blobs smaller, so that there are many.
func (w *Writer) SetChunkSize(n int) { w.limit = n }

// OpenManifest reads a manifest as Open does.
func OpenManifest(raw []byte, domain Keys) (*Manifest, error) {
	m, _, err := openManifest(raw, domain)
	return m, err
}

// ParseChunk and AppendRecord are the two directions of a data blob's content.
func ParseChunk(plaintext []byte) ([]Record, error) { return parseChunk(plaintext) }
func AppendRecord(b []byte, r Record) []byte        { return appendRecord(b, r) }

// ParseIndex returns the names of the blobs in an index.
func ParseIndex(raw []byte, number, chunks int) (names []string, err error) {
	list, err := parseIndex(raw, number, chunks)
	for _, c := range list {
		names = append(names, c.name(dataBlob))
	}
	return names, err
}

// SealManifest is a manifest with an authenticator, whatever is in it.
func SealManifest(m Manifest, domain Keys) ([]byte, error) {
	k, err := deriveKeys(domain, m.ID, m.Salt)
	if err != nil {
		return nil, err
	}
	return k.marshalManifest(&m)
}
