package cards

import (
	stdbytes "bytes"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	_ "image/gif" // its size is read
	_ "image/jpeg"
	"image/png"
	"net/http"
	"slices"
)

const (
	maxImageBytes  = 4 << 20
	maxImagePixels = 16 << 20 // of a Picture
)

// Image shows a picture, which becomes part of the page: PNG, JPEG, GIF or WebP of at most 4 MiB, or one of Go's images. SVG is
// refused, because it is a program of its own; draw with [Plot], or turn it into one of the others.
type Image struct {
	// Alt says what is to be seen, for those who cannot see it.
	Alt string
	// Caption stands below. Defaults to none.
	Caption string
	// Data is an encoded picture.
	Data []byte
	// Picture is shown if there is no Data.
	Picture image.Image
}

var imageFigure = template.Must(template.New("image").Parse(
	`<figure class="image"><img src="{{.Source}}" alt="{{.Alt}}"{{if .Width}} width="{{.Width}}" height="{{.Height}}"{{end}}>` +
		`{{with .Caption}}<figcaption class="quiet">{{.}}</figcaption>{{end}}</figure>`))

// CardHTML implements [flow.Component].
func (i Image) CardHTML() template.HTML {
	data, err := i.encoded()
	if err != nil {
		return note("the image %q could not be shown: %v", label(i.Alt), err)
	}
	kind := http.DetectContentType(data)
	if !slices.Contains([]string{"image/png", "image/jpeg", "image/gif", "image/webp"}, kind) {
		return note("the image %q could not be shown: it is %s (use PNG, JPEG, GIF or WebP)", label(i.Alt), kind)
	}
	alt := label(i.Alt)
	if alt == "" && i.Caption == "" {
		alt = "image"
	}
	v := struct {
		Source        template.URL
		Alt, Caption  string
		Width, Height int
	}{
		Source: template.URL("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(data)), //nolint:gosec // of a type from the list above
		Alt:    alt, Caption: label(i.Caption),
	}
	if c, _, err := image.DecodeConfig(stdbytes.NewReader(data)); err == nil {
		v.Width, v.Height = c.Width, c.Height // so that the page does not jump
	}
	return execute(imageFigure, v)
}

func (i Image) encoded() ([]byte, error) {
	data := i.Data
	if len(data) == 0 {
		if i.Picture == nil {
			return nil, fmt.Errorf("it has neither Data nor a Picture")
		}
		if size := i.Picture.Bounds(); size.Empty() || size.Dx() > maxImagePixels/size.Dy() {
			return nil, fmt.Errorf("it is %d by %d pixels (make it smaller)", size.Dx(), size.Dy())
		}
		var b stdbytes.Buffer
		if err := png.Encode(&b, i.Picture); err != nil {
			return nil, err
		}
		data = b.Bytes()
	}
	if len(data) > maxImageBytes {
		return nil, fmt.Errorf("it has %s, at most %s fit on a card (make it smaller, and keep the large one as an artifact)", bytes(int64(len(data))), bytes(maxImageBytes))
	}
	return data, nil
}
