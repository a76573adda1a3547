"""A text that would do something in a page that took it for more than a text."""

HOSTILE = (
    "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
    "'\"&\u202e"
)
