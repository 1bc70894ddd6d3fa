package artifacts

// Limits of one artifact.
const (
	// MaxInlineBytes is the largest encoded artifact that lives inside its record instead of as a blob of its own.
	MaxInlineBytes = 2 << 10
	// MaxFieldBytes is the largest encoded plain field. What is larger belongs into a File or a Ref.
	MaxFieldBytes = 64 << 20
)

// Entry is what a record says of one artifact: enough to find it, verify it, and decode it without the Go type.
type Entry struct {
	// Digest identifies the encoded content.
	Digest Digest `json:"digest"`
	// Size is the number of encoded bytes.
	Size int64 `json:"size"`
	// Codec is the durable name of the encoding.
	Codec string `json:"codec"`
	// Type is the Go type, for people.
	Type string `json:"type"`
	// Inline is the encoded content if it has at most MaxInlineBytes. Larger content is a blob.
	Inline []byte `json:"inline,omitempty"`
	// By is the task that set the artifact.
	By string `json:"by,omitempty"`
	// Name is the base name of a File. Other artifacts have none.
	Name string `json:"name,omitempty"`
}

// Same says whether both entries hold the same content in the same encoding, whoever set it.
func (e Entry) Same(other Entry) bool {
	return e.Digest == other.Digest && e.Codec == other.Codec && e.Name == other.Name
}

// remote says that the content has to be read from the store.
func (e Entry) remote() bool { return e.Inline == nil && e.Size > 0 }
