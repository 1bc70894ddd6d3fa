package flow

import (
	"context"
	"fmt"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// Digest identifies item i without decoding it: equal items of two lists of one type have equal digests.
func (it *Items) Digest(ctx context.Context, i int) (artifacts.Digest, error) {
	e, content, err := it.content(ctx, i)
	if err != nil {
		return artifacts.Digest{}, fmt.Errorf("item %d: %w", i, err)
	}
	return artifacts.Sum(append([]byte(e.Codec+"\n"), content...)), nil
}
