package codec

// CheckPicture is for tests outside.
var CheckPicture = checkPicture
