"""The words that instructions are understood by, in English and Chinese, each with what it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobs.edit.asked import Colour

# What an instruction can ask for. `attribute|more`, `attribute|less`: the word says the direction as well.
OPERATIONS = {
    "light|more": "brighten|brighter|brightened|brightening|lighten|lighter|light up|more bright|lighten up"
    "|brighten up"
    "|变亮|调亮|提亮|更亮|亮一些|亮一点|亮一点儿|亮些|加亮|增亮",
    "light|less": "darken|darker|darkened|dim|dimmer|more dark|less bright"
    "|变暗|调暗|压暗|更暗|暗一些|暗一点|暗一点儿|暗些|加深|减暗",
    "contrast|more": "more contrasty|contrastier|更强对比",
    "contrast|less": "flatter",
    "saturation|more": "saturate|more saturated|more vivid|more colorful|more colourful|more vibrant|vivid|vibrant"
    "|更鲜艳|鲜艳一些|鲜艳一点|鲜艳些|变鲜艳|鲜艳|更饱和",
    "saturation|less": "desaturate|less saturated|less vivid|less colorful|less colourful|less vibrant"
    "|more muted|muted"
    "|desaturated|更柔和的颜色|变淡|更淡|淡一些|淡一点",
    "warmth|more": "warm|warmer|warm up|more warm|暖一些|暖一点|更暖|变暖|暖色调|暖色|调暖",
    "warmth|less": "cool|cooler|cool down|colder|more cool|冷一些|冷一点|更冷|变冷|冷色调|冷色|调冷",
    "blur|more": "blur|blurry|blurrier|more blurry|blurred|soften|softer|gaussian blur|defocus"
    "|模糊|高斯模糊|模糊一些|模糊一点|虚化|柔化|变模糊",
    "sharpen|more": "sharpen|sharper|crisper|more sharp|锐化|更清晰|清晰一些|清晰一点|更锐利|变清晰",
    "grayscale": "grayscale|greyscale|gray scale|grey scale|black and white|black-and-white|black & white|monochrome"
    "|b&w|remove the color|remove the colour|remove all color|remove all colour|remove color|remove colour|colorless"
    "|灰度|灰度图|灰度图像|黑白|黑白照片|黑白图|黑白图像|黑白的|去色|单色",
    "sepia": "sepia|sepia tone|sepia toned|sepia-toned|sepia filter|sepia effect"
    "|复古棕|棕褐色|棕褐色调|怀旧|怀旧色调|怀旧效果|褐色调|深褐色|老照片效果|复古色调",
    "invert": "invert|inverted|invert the colors|invert the colours|invert colors|invert colours|negative|negate"
    "|反色|反相|负片|颜色反转|反转颜色|底片效果",
    "posterize": "posterize|posterise|posterized|posterization|poster effect|色调分离|海报化|色阶分离",
    "vignette": "vignette|vignetting|dark vignette|vignette effect|darken the corners|darken the edges|darken corners"
    "|darken the borders|暗角|晕影|暗角效果|边角变暗",
    "hue": "hue|hues|shift the hue|rotate the hue|shift hue|色相|色调旋转",
    "tint": "tint|tinted|tinge|color cast|colour cast|color tint|colour tint|染色|着色|染成|染|色调",
    "rotate": "rotate|turn|spin|rotated|旋转|转动|转",
    "upside down": "upside down|upside-down|颠倒|倒过来|倒置",
    "flip": "flip|flipped|翻转|翻",
    "flip sideways": "左右翻转|左右镜像|左右颠倒|左右对调|左右翻",
    "flip over": "上下翻转|上下镜像|上下颠倒|上下对调|上下翻",
    "mirror": "mirror|mirrored|mirror image|镜像|镜像翻转",
    "crop": "crop|cropped|cut out|keep|keep only|crop to|裁剪|裁切|裁成|裁剪到|裁剪成|保留|只保留|剪裁",
    "trim": "crop off|cut|cut off|trim|remove|cut away|crop out|chop off|crop away|裁掉|去掉|切掉|剪掉|裁去",
    "resize": "resize|rescale|scale|scale it|resized|resample|调整大小|缩放|调整尺寸|尺寸|大小调整",
    "enlarge": "enlarge|upscale|scale up|enlarged|bigger|larger|放大",
    "shrink": "shrink|downscale|scale down|downsize|smaller|缩小",
    "write": "write|add the text|add text|add the words|add a text|add the caption|add a caption|add caption"
    "|add the title"
    "|add a title|put the text|put text|put the words|overlay|overlay the text|overlay text|insert the text|print"
    "|caption|text|label|title|写|写上|写着|添加文字|加上文字|加文字|添加文本|文字|加字|写字|加上字样|字样|标题",
}
ATTRIBUTES = {
    "light": "brightness|exposure|luminosity|lightness|luminance|亮度|曝光|明度",
    "contrast": "contrast|对比度|反差",
    "saturation": "saturation|vibrance|vibrancy|colorfulness|colourfulness|color intensity|colour intensity"
    "|饱和度|鲜艳度|色彩饱和度|颜色饱和度",
    "warmth": "warmth|color temperature|colour temperature|temperature|色温|暖度",
    "sharpen": "sharpness|clarity|锐度|清晰度",
    "blur": "blurriness|模糊度",
    "resize": "size|image size|大小",
    "light?": "bright|as bright|亮",  # "twice as bright"
    "dark?": "dark|as dark|暗",
    "saturation?": "as saturated|as vivid|as colorful|as colourful|饱和",
}
DIRECTIONS = {
    1: "increase|raise|boost|more|higher|turn up|enhance|intensify|strengthen|add|up|stronger|improve|with more"
    "|增加|升|提高|提升|增强|加大|加强|调高|增大|更高|升高|更强|加",
    -1: "decrease|reduce|lower|less|turn down|weaken|drop|down|cut down|with less|diminish"
    "|降低|降|减少|减弱|减小|调低|更低|下降|减|更少|更弱",
    2: "double",
    3: "triple",
    -2: "halve|减半",
}
DEGREES = {  # times the default amount
    0.5: "slightly|a little|a bit|a little bit|a touch|subtly|somewhat|mildly|gently|slight|subtle|just a bit|a tad"
    "|稍微|略微|一点|一点点|一些|轻微|轻度|稍稍|微微|有点|稍",
    2.0: "a lot|much|strongly|significantly|very|heavily|greatly|considerably|far|substantially|strong|heavy"
    "|dramatically"
    "|很多|大幅|强烈|明显|非常|显著|大大|大幅度|重度|许多|得多",
}
FACTORS = {2.0: "twice|two times|double the size", 3.0: "thrice|three times", 4.0: "four times"}
SHARES = {
    0.5: "half|one half|a half|一半|半",
    0.25: "quarter|a quarter|one quarter|四分之一",
    1 / 3: "third|a third|one third|三分之一",
    2 / 3: "two thirds|三分之二",
    0.75: "three quarters|四分之三",
}
COLOURS: dict[Colour, str] = {
    (220, 20, 20): "red|红|红色|红色的", (255, 140, 0): "orange|橙色|橙|橘色|橘黄色", (255, 220, 0): "yellow"
        "|黄色|黄|黄色的",
    (20, 160, 40): "green|绿色|绿|绿色的", (0, 190, 190): "cyan|teal|turquoise|青色|青", (30, 60, 220): "blue"
        "|蓝色|蓝|蓝色的",
    (130, 40, 180): "purple|violet|紫色|紫|紫色的", (230, 0, 160): "magenta|品红"
        "|洋红", (255, 120, 180): "pink|粉色|粉红色|粉红",
    (130, 80, 40): "brown|棕色|褐色|咖啡色", (218, 165, 32): "gold|golden|金色",
    (255, 255, 255): "white|白色|白|白色的", (0, 0, 0): "black|黑色|黑|黑色的", (128, 128, 128): "gray|grey|灰色|灰",
}  # fmt: skip
ROWS = {
    "top": "top|upper|above|up top|顶部|上方|上面|上部|上边|顶端|顶",
    "bottom": "bottom|lower part|below|underneath|底部|下方|下面|下部|下边|底端|底",
}
COLUMNS = {"left": "left|左侧|左边|左面|左", "right": "right|右侧|右边|右面|右"}
PLACES = {
    ("top", "left"): "top left|upper left|top-left|upper-left|左上角|左上",
    ("top", "right"): "top right|upper right|top-right|upper-right|右上角|右上",
    ("bottom", "left"): "bottom left|lower left|bottom-left|lower-left|左下角|左下",
    ("bottom", "right"): "bottom right|lower right|bottom-right|lower-right|右下角|右下",
    ("middle", "middle"): "centre|center|middle|central|centered|centred|中央|中心|中间|正中|居中|正中央|中部",
}
SIDES = {
    ("left", "top", "right", "bottom"): "each side|all sides|every side|each edge|all edges|every edge"
    "|the edges|the border"
    "|all four sides|四周|每边|每一边|各边|四边|边缘",
    ("left", "right"): "left and right|both left and right|left and the right|左右|左右两边|左右两侧",
    ("top", "bottom"): "top and bottom|both top and bottom|top and the bottom|上下|上下两边",
}
AXES = {
    "horizontal": "horizontally|horizontal|left to right|left-right|left-to-right|along the horizontal axis"
    "|sideways|水平|水平地|水平方向",
    "vertical": "vertically|vertical|top to bottom|top-bottom|along the vertical axis|up-down"
    "|垂直|垂直地|垂直方向|竖直",
}
TURNS = {
    1: "clockwise|to the right|rightwards|rightward|cw|顺时针|向右|往右",
    -1: "counterclockwise|counter-clockwise|anticlockwise|anti-clockwise|counter clockwise|to the left|leftwards"
    "|leftward|ccw|逆时针|向左|往左",
}
SHAPES = {1.0: "square|a square|正方形|方形"}
LETTERS = {0.18: "large|big|huge|大|大号|大字", 0.08: "small|tiny|小|小号|小字"}
TO = "to|down to|up to|到|至|为|成|变为|调到|调至|变成"
BY = "by|by about|by around|by roughly|of|by a factor of|with|使用|以"
JOIN = "and|then|and then|after that|afterwards|next|also|plus|, and|as well as|followed by|finally|while|but also" \
    "|并|并且|然后|再|接着|同时|而且|之后|最后|以及|和|与|且|随后|此外|还要|另外|又|其次|先|首先"  # fmt: skip
KEEP = (
    "keep everything else the same|keep everything else unchanged|keep the rest unchanged|keep the rest the same"
    "|leave everything else unchanged|leave everything else as it is|leave the rest unchanged|leave the rest as it is"
    "|keep everything else as it is|without changing anything else|leave everything else alone|change nothing else"
    "|其他保持不变|其余保持不变|其他不变|其余不变|保持其他不变|其它不变|其它保持不变|保持其余不变|其他部分保持不变"
)
SPOT = "part|area|region|corner|side|edge|portion|sides|corners|部分|区域|边|角"  # of a place: "the left side"
PORTION = {
    0.5: "half of the image|half of the photo|half of the picture|half of it|half the image|half the photo"
    "|half the picture|一半图片|一半图像|一半画面",
}
FILL = (
    "please|the|a|an|this|that|these|it|its|image|images|photo|photos|photograph|picture|pic|make|making|made"
    "|look|looks|whole|entire|overall|all|of|in|into|on|at|for|is|be|so|should|can|could|would|you|we|me|i|want"
    "|need|to be|apply|give|use|using|some|effect|filter|image's|photo's|picture's|with|as|than|original|current"
    "|by|to|version|convert|turn it into|turn this into|turn the image into|turn the photo into"
    "|turn the picture into|change|transform|set|adjust|colors|colours|color|colour|tone|tones|from|around|about"
    "|approximately|roughly|only|just|do|let|put|place|add|there|onto|over|across|its size|size|scene|shot|level"
    "|levels|everything|kind of|more of|amount|size of|axis|along|now|first|letters|font|text color|text colour"
    "|coloured|colored|written|words|word|reading|saying|that says|which says|says|lines|line|piece|way"
    "|proportionally|width and height|dimensions|resolution|pixels|wide|radius|standard deviation|sigma|请|请把"
    "|请将|把|将|这张|这幅|这个|该|图|图片|图像|照片|相片|画面|整张|整幅|整体|整个|让|使|使得|给|对|进行|做|的|了"
    "|地|得|一张|一个|一幅|它|变|变得|调整|调|处理|效果|颜色|色彩|转换|转换为|转换成|转为|转成|改|改成|改为|变换"
    "|为原来的|原来的|原来|原图|在|上|中|里|添加|加上|加入|应用|用|看起来|更加|更|比|我|想|要|需要|帮我|一下|个"
    "|张|幅|方向|角度|设为|设置|设置为|设成|全部|所有|都|整|滤镜|风格|些|处|内容|大小|尺寸为|并且把|画|字体|其|按"
    "|约|大约|左右翻过来|比例"
)


def phrases() -> Iterator[tuple[str, str, Any]]:
    """Every phrase with its kind and what it stands for. Where two kinds share one, the later one here is taken."""
    single = {"fill": FILL, "join": JOIN, "to": TO, "by": BY, "keep": KEEP, "spot": SPOT}
    for kind, text in single.items():
        yield from ((phrase, kind, None) for phrase in text.split("|"))
    tables: dict[str, dict[Any, str]] = {
        "size": LETTERS, "degree": DEGREES, "direction": DIRECTIONS, "factor": FACTORS, "share": SHARES,
        "colour": COLOURS, "row": ROWS, "column": COLUMNS, "place": PLACES, "sides": SIDES, "axis": AXES,
        "turn": TURNS, "shape": SHAPES, "portion": PORTION, "attribute": ATTRIBUTES, "operation": OPERATIONS,
    }  # fmt: skip
    for kind, table in tables.items():
        for value, text in table.items():
            yield from ((phrase, kind, value) for phrase in text.split("|"))
