// Plays one clip at a time over its poster. A video element exists only while it plays: browsers limit how many
// decoders a page may have.

class Player {
  constructor() {
    this.media = null;
    this.video = null;
  }

  isAt(media) {
    return this.media === media;
  }

  play(media, source) {
    if (this.media === media) return;
    this.stop();
    const video = el("video", { src: source, loop: true, playsinline: true, muted: true, preload: "auto", tabindex: -1 });
    video.muted = true; // browsers start only muted videos without a click; the attribute alone does not mute
    video.addEventListener("playing", () => video.classList.add("playing"), { once: true });
    video.addEventListener("error", () => this.video === video && this.stop());
    [this.media, this.video] = [media, video];
    media.classList.add("playing");
    media.append(video);
    video.play().catch(() => {}); // stopped before it could start
  }

  stop() {
    if (!this.media) return;
    const { media, video } = this;
    [this.media, this.video] = [null, null];
    media.classList.remove("playing");
    video.pause();
    // Without a source, load() ends the download and frees the decoder.
    video.removeAttribute("src");
    video.load();
    video.remove();
  }

  toggle(media, source) {
    if (this.media === media) this.stop();
    else this.play(media, source);
  }
}
