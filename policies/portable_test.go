package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type portableTestError struct{ text string }

func (e *portableTestError) Error() string { return e.text }

// An error that went to another process is classified and decided about as it was where it came from.
func TestPortable(t *testing.T) {
	t.Parallel()
	deep := fmt.Errorf("outer: %w", &portableTestError{"inner"})
	for _, err := range []error{
		errors.New("plain"),
		deep,
		WithClass(deep, Invalid),
		WithRetryAfter(deep, 3*time.Second),
		WithRetryAfter(deep, time.Hour),
		WithDeferral(deep, Deferral{For: time.Minute, Dependency: "model", Reason: "its breaker is open"}),
		&HTTPError{StatusCode: 503, RetryAfter: 2 * time.Second},
		PanicFailure("boom", []byte("stack")),
	} {
		f := Classify(err)
		b, jsonErr := json.Marshal(Pack(err, f))
		require.NoError(t, jsonErr)
		var p Portable
		require.NoError(t, json.Unmarshal(b, &p))
		there := p.Err()
		got := Classify(there)
		require.Equal(t, f, got, "%v", err)

		want, wantOK := DeferralOf(err, f)
		d, ok := DeferralOf(there, got)
		require.Equal(t, wantOK, ok)
		require.Equal(t, want, d)
		for _, names := range [][]string{{"portableTestError"}, {"HTTPError"}, {"otherError"}} {
			s := NewSpec(&Retry{MaximumAttempts: 3, NonRetryable: names, Jitter: NoJitter}, nil, nil)
			require.Equal(t, s.Decide(f, err, nil, 1, nil), s.Decide(got, there, nil, 1, nil), "%v, %v", err, names)
		}
	}
	require.Equal(t, Unknown, Classify(Portable{}.Err()).Class)
}
